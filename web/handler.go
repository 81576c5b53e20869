// Package web serves clients. A session is one connected client, with its identity and its
// limits. Package web acts on clients' requests (request.go) on every wire that package wire
// reads, and hands the engine's updates to each client's send queue.
//
// The packages below web/internal carry the messages: the send queue, the WebSocket transport
// and sockets. They know no session.
//
// Locks are taken in this order: session.answering, session.turn, the revocations', session.mu or
// the Handler's, a send queue's.
package web

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/internal/compact"
	"github.com/entity-sync/entity-sync/internal/field"
	"github.com/entity-sync/entity-sync/internal/wait"
	"github.com/entity-sync/entity-sync/web/internal/origin"
	"github.com/entity-sync/entity-sync/web/internal/reconsider"
	"github.com/entity-sync/entity-sync/web/internal/revocation"
	"github.com/entity-sync/entity-sync/web/internal/sendqueue"
	"github.com/entity-sync/entity-sync/web/internal/socket"
	"github.com/entity-sync/entity-sync/web/internal/timers"
	"github.com/entity-sync/entity-sync/web/internal/websocket"
	"github.com/entity-sync/entity-sync/web/wire"
)

// Handler upgrades requests to WebSocket and keeps the sessions that result.
type Handler struct {
	config   Config
	upgrader *websocket.Upgrader
	connect  func(*session) client // makes the engine's end of a session

	ctx       context.Context // ends when sessions are cut off
	cancel    context.CancelFunc
	leaving   context.Context // ends when Close begins
	leave     context.CancelFunc
	admission admission

	revocations *revocation.List
	rights      *reconsider.Rounds
	deaf        error // why neither are heard, if the topic could not be joined

	queues *sendqueue.Group[*bridge.Update]
	poller *socket.Poller
	timers timers.Queue
	wall   func() time.Time // the clock by which secrets expire
	logs   *rate.Limiter    // for lines whose number clients decide

	mu       sync.Mutex
	sessions compact.Set[*session, *session]
	closed   bool
	work     sync.WaitGroup // one for each session

	turnedAway turnedAway
	numbered   atomic.Uint64 // sessions of functions
}

// logsPerSecond and logBurst bound what clients can make a node log.
const (
	logsPerSecond = 1
	logBurst      = 50
)

// New returns a Handler whose sessions are clients of c.Bridge.
func New(c Config) (*Handler, error) { return newBy(c, time.Now) }

// newBy is New with another clock.
func newBy(c Config, clock func() time.Time) (*Handler, error) {
	if c.Bridge == nil {
		return nil, field.In("web.Config", field.Errorf("Bridge", "is nil"))
	}
	h, err := newHandler(c, func(s *session) client {
		return c.Bridge.NewClient(s, bridge.ClientOptions{Secret: s.identity.secret, MaxSubscriptions: c.MaxSubscriptions})
	})
	if err != nil {
		return nil, err
	}
	h.wall = clock
	h.hearRevocations(c.Bridge)
	return h, nil
}

func newHandler(c Config, connect func(*session) client) (*Handler, error) {
	if err := c.validate(); err != nil {
		return nil, field.In("web.Config", err)
	}
	h := &Handler{config: c.withDefaults(), connect: connect, wall: time.Now}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.leaving, h.leave = context.WithCancel(h.ctx)
	h.logs = rate.NewLimiter(logsPerSecond, logBurst)
	h.revocations = h.newRevocations()
	h.rights = h.newRights()
	h.startTransports()
	return h, nil
}

// startTransports makes the parts that all connections share.
func (h *Handler) startTransports() {
	c := &h.config
	h.poller = socket.NewPoller(c.Logger)
	h.queues = sendqueue.NewGroup[*bridge.Update](sendqueue.Config{
		MaxBytes: c.MaxQueuedBytes, MaxEvents: c.MaxQueuedEvents, MaxEventBytes: c.MaxQueuedEventBytes, OverflowCode: wire.CloseSlow, OverflowReason: "too much is waiting to be read",
		EndTimeout: c.WriteTimeout, Clock: func() time.Time { return h.wall() }, Go: h.work.Go,
	})
	var offered []string
	if c.Bridge != nil { // clients of functions get nothing but rows
		offered = subprotocols()
	}
	h.upgrader = h.newUpgrader(offered)
}

func (h *Handler) newUpgrader(offered []string) *websocket.Upgrader {
	c := &h.config
	return websocket.NewUpgrader(websocket.Config{
		MaxMessageBytes: c.MaxMessageBytes, PingInterval: c.PingInterval, PongWait: c.PongWait,
		WriteTimeout: c.WriteTimeout, CloseWait: closeWait, Poller: h.poller, Timers: &h.timers,
	}, offered, h.answerFailedUpgrade)
}

// ServeHTTP upgrades the request and returns. The session goes on by itself, so that the
// request and its buffers are not kept for as long as the session lasts. A request that is no
// WebSocket request is answered with a 4xx status and a text that says what it lacks.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.isClosed() {
		h.turnAway(w, closing)
		return
	}
	// The cheapest checks come first, and the application's last.
	if why, met := obstacleOf(r); met {
		h.turnAway(w, why)
		return
	}
	if !origin.Allowed(r, h.config.AllowedOrigins) {
		h.turnAway(w, foreignOrigin, slog.String("origin", strange(r.Header.Get("Origin"))), slog.String("host", strange(r.Host)))
		return
	}
	remote := cut(h.config.RemoteAddr(r))
	if !h.admit(w, remote) {
		return
	}
	taken := false
	defer func() { // also where the application's code panics or ends the goroutine
		if !taken {
			h.release(remote)
		}
	}()
	if id, ok := h.authenticate(w, r); ok {
		taken = h.upgrade(w, r, id, remote)
	}
}

// upgrade makes a session of the request, if it can.
func (h *Handler) upgrade(w http.ResponseWriter, r *http.Request, id identity, remote string) (began bool) {
	if !h.enter() {
		h.turnAway(w, closing)
		return false
	}
	defer func() { // also where the application's code ends the goroutine
		if !began {
			h.work.Done()
		}
	}()
	conn, err := h.upgrader.Upgrade(w, r)
	if err != nil {
		if !websocket.IsAnswered(err) && h.debugging() {
			h.config.Logger.Debug("an upgrade failed", slog.Any("error", err))
		}
		return false
	}
	s, err := h.open(conn, id, remote)
	if err != nil {
		h.config.Logger.Error("a client could not be connected", slog.Any("error", err))
		conn.CloseNow()
		return false
	}
	h.add(s)
	code := h.revocations.Enter(&s.place, s)
	s.traceBegin()
	s.begin()
	if h.isClosed() { // Close may have missed the session
		s.closeGracefully(wire.CloseRestart, retryHint())
	}
	if code != 0 { // a revocation came while the client was being let in
		s.Revoke(code)
	}
	return true
}

// open makes a session. It calls the application's client builder, if there is one.
func (h *Handler) open(conn *websocket.Conn, id identity, remote string) (s *session, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the client builder panicked: %s", debug.Stack())
		}
	}()
	return newSession(h, conn, id, remote), nil
}

func (h *Handler) isClosed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.closed
}

// enter makes Close wait for a session that is about to begin. It returns false if the handler
// is closed already; see forget.
func (h *Handler) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.work.Add(1)
	return true
}

// add lets Close know of the session.
func (h *Handler) add(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sessions.Put(s)
}

func (h *Handler) forget(s *session) {
	defer h.work.Done()
	h.release(s.remote)
	h.revocations.Leave(&s.place)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sessions.Delete(s)
}

// Close accepts no more clients. It tells each client to go (close code 1012, "service
// restart") once the client's waiting messages are written, and returns when all are gone. The
// clients of a large node are told one after the other, so that they do not come back
// elsewhere all at once: over ten seconds at most, and half of the time that ctx allows. When
// ctx ends, Close cuts off the clients that are left. http.Server's Shutdown does none of
// this, because it does not know of upgraded connections.
func (h *Handler) Close(ctx context.Context) error {
	defer h.queues.Close()
	defer h.poller.Close()
	defer h.timers.Close()
	drain(ctx, h.close())
	err := wait.For(ctx, &h.work)
	h.cancel()
	if err == nil {
		return nil
	}
	for _, s := range h.close() {
		s.conn.CloseNow()
	}
	// Reading and writing fail at once, but the application's code may take its time.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), cutOffWait)
	defer cancel()
	_ = wait.For(last, &h.work)
	return fmt.Errorf("web: waiting for clients to go: %w", err)
}

// cutOffWait is how long Close waits, after ctx has ended, for the sessions that it has cut
// off.
const cutOffWait = 20 * time.Millisecond

// start runs work in a goroutine that Close waits for, unless the handler is closed.
func (h *Handler) start(work func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.work.Go(work)
	return true
}

// close refuses further sessions and returns the present ones.
func (h *Handler) close() []*session {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.leave()
	return h.all()
}

func (h *Handler) all() []*session {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.AppendSeq(make([]*session, 0, h.sessions.Len()), h.sessions.All())
}
