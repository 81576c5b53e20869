package web

import (
	"errors"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/events"
	"github.com/entity-sync/entity-sync/internal/conflate"
	"github.com/entity-sync/entity-sync/internal/instant"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/internal/revocation"
	"github.com/entity-sync/entity-sync/web/internal/sendqueue"
	"github.com/entity-sync/entity-sync/web/internal/tokenbucket"
	"github.com/entity-sync/entity-sync/web/internal/websocket"
	"github.com/entity-sync/entity-sync/web/wire"
)

// session is one connected client.
type session struct {
	handler *Handler
	conn    *websocket.Conn
	encoder *encoder
	client  client
	topics  atomic.Pointer[events.Client]   // nil before the first subscription to a topic
	out     sendqueue.Queue[*bridge.Update] // frames, updates and events that wait to be written
	remote  string                          // the client's address
	number  uint64                          // the client's number in the log

	place revocation.Place // among the sessions with its secret

	// answering is held from the first change that a request makes to the answer, for which the
	// client may have to read. The goroutine that tells of Reconsider's endings waits for it, and
	// no other.
	answering sync.Mutex

	// turn is held while a subscription to a topic begins or ends, until Observe has returned, so
	// that the application hears of both in their order. The reading goroutine begins one, and
	// Reconsider ends one: a slow Observe holds up these two.
	turn sync.Mutex

	// Owned by the reading goroutine.
	complaints int // messages that were refused
	messages   tokenbucket.Bucket
	subscribes tokenbucket.Bucket

	mu       sync.Mutex // guards what follows
	identity identity
	expiry   *time.Timer // for the next event of the identity
	renewing bool        // a verified identity is about to follow the present one
	overdue  bool        // and the present one has expired meanwhile: the send queue is held
	ended    bool        // nothing is scheduled any more
}

// client is the engine's end of a session: a *bridge.Client, or functions.
type client interface {
	Subscribe(shared.EntityKey, bridge.SubscribeOptions) error
	Unsubscribe(shared.EntityKey)
	SetSecret(string)
	Keys() []shared.EntityKey
	Has(shared.EntityKey) bool
	Len() int
	Close()
}

// newSession makes a session of a connection. begin must follow.
func newSession(h *Handler, conn *websocket.Conn, id identity, remote string) *session {
	s := &session{
		handler: h, conn: conn, encoder: encoderOf(conn.Subprotocol()), identity: id, remote: remote,
		messages: tokenbucket.New(h.config.MessageRate), subscribes: tokenbucket.New(h.config.SubscribeRate),
	}
	h.queues.Init(&s.out, sendqueue.Options[*bridge.Update]{Transport: conn, Encoder: s.encoder, Owner: s, Immediate: conn.Immediate()})
	s.client = h.connect(s)
	s.number = h.numberOf(s.client)
	return s
}

// Key implements compact.Keyed: no two sessions are the same.
func (s *session) Key() *session { return s }

// begin starts reading the client's messages.
func (s *session) begin() {
	s.mu.Lock()
	s.scheduleExpiryLocked()
	s.out.ExpireAt(s.identity.expires)
	s.mu.Unlock()
	s.conn.Start(s)
}

var _ bridge.FreshnessSink = (*session)(nil)

// Push implements bridge.Sink.
func (s *session) Push(slot *bridge.Slot, u *bridge.Update) { s.out.Push(inner(slot), u) }

// Drop implements bridge.Sink.
func (s *session) Drop(slot *bridge.Slot) bool { return s.out.Drop(inner(slot)) }

// AddStale implements bridge.FreshnessSink.
func (s *session) AddStale(n int) { s.out.AddStale(n) }

// inner returns the slot in the send queue's type.
func inner(slot *bridge.Slot) *conflate.Slot[*bridge.Update] {
	return (*conflate.Slot[*bridge.Update])(slot)
}

// Receive implements websocket.Owner.
func (s *session) Receive(message []byte) {
	if s.waitForToken(&s.messages, "messages") {
		s.receive(message)
	} // otherwise it was told to go, and further messages are ignored
}

// Control implements websocket.Owner.
func (s *session) Control(answer []byte) {
	s.waitForToken(&s.messages, "messages")
	if answer != nil {
		s.out.Pong(answer)
	}
}

// Ask implements websocket.Owner. It also checks whether the wall clock was set past the
// secret's expiry.
func (s *session) Ask() {
	if id := s.who(); s.handler.expired(id.expires) {
		s.expire(id)
	}
	s.out.Ping()
}

// Ended implements websocket.Owner. It releases everything, and Close waits for that.
func (s *session) Ended(err error) {
	s.end(err)
	s.handler.forget(s)
}

func (s *session) end(err error) {
	if websocket.IsTimeout(err) && !s.conn.IsLeaving() {
		s.conn.CloseNow() // there is no client to say goodbye to
	}
	s.out.End(s.conn.Farewell(err))
	if !s.conn.IsLeaving() {
		s.closeClient() // takes back what waits: no client will read it
	}
	s.out.Wait()
	s.closeClient()
	s.traceEnd(err)
	s.mu.Lock()
	s.ended = true
	if s.expiry != nil {
		s.expiry.Stop()
	}
	s.mu.Unlock()
	s.conn.End(err)
}

// closeClient ends every subscription. It may be called again.
func (s *session) closeClient() {
	var keys []shared.EntityKey
	if s.handler.config.Observe != nil {
		keys = s.client.Keys()
	}
	s.client.Close()
	for _, key := range keys {
		s.observe(shared.AccessRequest{Action: shared.ActionUnsubscribe, Key: key})
	}
	if topics := s.topics.Load(); topics != nil {
		for _, topic := range topics.Close() {
			s.observe(shared.AccessRequest{Action: shared.ActionUnsubscribe, Topic: topic})
		}
	}
}

// Overflowed implements sendqueue.Owner.
func (s *session) Overflowed() { s.conn.Leave() }

// Failed implements sendqueue.Owner.
func (s *session) Failed() { s.conn.CloseNow() }

// receive acts on one message. It calls the application's functions; a panic of theirs costs
// that message and nothing else.
func (s *session) receive(message []byte) {
	defer func() {
		if r := recover(); r != nil {
			s.refuse(errPanicked, slog.String("stack", string(debug.Stack())))
		}
	}()
	if err := s.act(message); err != nil {
		s.refuse(err)
	}
}

// refuse says what was wrong with a message: in the log, and to the client if its wire can
// express it.
func (s *session) refuse(err error, attrs ...any) {
	s.complain(err, attrs...)
	s.reply(wire.RefusalOf(err).Reply())
}

// closeGracefully tells the client to go, after the messages that wait for it.
func (s *session) closeGracefully(code int, reason string) {
	s.traceAway(code)
	s.out.End(s.conn.Close(code, reason))
	s.conn.Leave()
}

// toldSlower is how often a client is told that it is being slowed down. waitStep is how long
// a session that is slowed down may take to notice that it ends.
const (
	toldSlower = time.Minute
	waitStep   = 50 * time.Millisecond
)

// waitForToken waits until one more may be taken. It returns false if the session ends first.
// While the session waits it does not read, which slows the client down and loses nothing: the
// client's own writes then wait.
func (s *session) waitForToken(b *tokenbucket.Bucket, what string) bool {
	now := instant.Now()
	wait := b.Take(now)
	if wait > 0 && b.Tell(now, toldSlower) {
		s.refuse(&wire.Refusal{Code: wire.CodeRateLimited, Message: "too many " + what + ": they are taken more slowly"})
	}
	for wait > 0 && !s.conn.IsLeaving() {
		step := min(wait, waitStep)
		time.Sleep(step)
		wait -= step
	}
	return !s.conn.IsLeaving()
}

// maxComplaints bounds what one client can write to the log.
const maxComplaints = 10

var errPanicked = errors.New("handling the message panicked")

// complain logs what was wrong with a message, never its content: the first few as warnings,
// and further ones at the debug level.
func (s *session) complain(err error, attrs ...any) {
	level := slog.LevelDebug
	if s.complaints++; s.complaints <= maxComplaints && s.handler.logs.Allow() {
		level = slog.LevelWarn
	}
	log := s.handler.config.Logger
	if !log.Enabled(s.handler.ctx, level) {
		return
	}
	r := wire.RefusalOf(err)
	if r.Cause != nil {
		err = r.Cause // the client is not told the cause
	}
	attrs = append([]any{slog.Uint64("session", s.number), slog.String("code", string(r.Code)), slog.Any("error", err),
		slog.String("client", strange(s.remote)), slog.Int("so_far", s.complaints)}, attrs...)
	if r.Key != nil && s.handler.knows(r.Key.Entity) {
		attrs = append(attrs, slog.String("entity", string(r.Key.Entity)))
	}
	log.Log(s.handler.ctx, level, "refusing a client's message", attrs...)
}
