package web

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/wire"
)

// session is one connected client.
type session struct {
	handler *Handler
	conn    *websocket.Conn
	reader  *bufio.Reader // that conn reads from
	encoder *encoder
	client  client
	out     *sendQueue
	remote  string // where the client is
	number  uint64 // what the log calls it

	socket int        // of a session that was ever parked, its number; guarded by the idle poller's lock
	place  place      // among those with its secret; guarded by the orders' lock
	timer  timerEntry // for the next ping, or the end of the wait for an answer; guarded by the handler's timer queue

	// Of the reading goroutine.
	complaints int // messages that made no sense
	messages   tokenBucket
	subscribes tokenBucket

	mu       sync.Mutex // guards what follows
	identity identity
	nextPing time.Time
	silent   time.Time   // when the client counts as gone, unless it is heard of before
	asked    time.Time   // when it was first asked since it was heard of; zero if it was not
	written  progress    // when it was asked, or given more time
	looked   bool        // for what may lie in the socket, since it was heard of
	parked   bool        // there is no goroutine that reads, until resume
	expiry   *time.Timer // of the identity
	renewing bool        // a verified identity is about to follow this one
	overdue  bool        // and the one before it has expired meanwhile: the send queue is held
	leaving  bool        // told to go away

	endOfMessage time.Time // when the next part of the message that is being read must be there; zero between two
	ended        bool      // no timer starts any more, and nothing is scheduled
}

// client is the engine's end of a session: a *bridge.Client, or functions.
type client interface {
	Subscribe(shared.EntityKey, bridge.SubscribeOptions) error
	Unsubscribe(shared.EntityKey)
	SetSecret(string)
	Keys() []shared.EntityKey
	Close()
}

// kernelBuffer bounds what waits in the kernel for one client. What is in there
// cannot be replaced by something newer any more, and a ping waits behind it: a
// client on a slow line must get through it before it counts as gone.
const kernelBuffer = 128 << 10

// kernelReadBuffer bounds what a client can have said that was not read yet: one
// that is slowed down counts as living for as long as there is something to read.
const kernelReadBuffer = 64 << 10

// boundKernelBuffer does its best: where it cannot, more waits in the kernel.
func boundKernelBuffer(conn net.Conn) {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(kernelBuffer)
		_ = tcp.SetReadBuffer(kernelReadBuffer)
	}
}

var pingFrame = appendFrame(nil, websocket.PingMessage, nil)

// newSession makes a session of an upgraded connection. begin must follow.
func newSession(h *Handler, conn *websocket.Conn, below *upgraded, id identity, remote string) *session {
	s := &session{
		handler: h, conn: conn, reader: below.reader, encoder: encoderOf(conn.Subprotocol()), identity: id, remote: remote,
		messages: newTokenBucket(h.config.MessageRate), subscribes: newTokenBucket(h.config.SubscribeRate),
	}
	boundKernelBuffer(below.Conn)
	s.out = newSendQueue(below.Conn, s)
	below.out = s.out
	s.client = h.connect(s)
	s.number = h.numberOf(s.client)
	conn.SetReadLimit(h.config.MaxMessageBytes)
	// gorilla's own handlers write to the connection; everything here goes
	// through the send queue.
	conn.SetPingHandler(func(data string) error { return s.answerPing([]byte(data)) })
	conn.SetPongHandler(func(string) error { return s.notePong() })
	conn.SetCloseHandler(func(int, string) error { return nil }) // answered by run
	return s
}

// begin has the client's messages read from now on.
func (s *session) begin() {
	s.mu.Lock()
	s.nextPing = time.Now().Add(s.handler.config.PingInterval)
	s.handler.timers.schedule(s, s.nextPing)
	s.scheduleExpiryLocked()
	s.out.expireAt(s.identity.expires)
	s.mu.Unlock()
	if err := s.extendDeadline(); err != nil || !s.park() {
		go s.read()
	}
}

// end lets go of everything, err being why nothing more is read.
func (s *session) end(err error) {
	if isTimeout(err) && !s.isLeaving() {
		s.closeNow() // nobody there to say goodbye to
	}
	s.out.end(farewell(err))
	if !s.isLeaving() {
		s.client.Close() // takes back what waits: there is nobody to read it
	}
	s.out.wait()
	s.client.Close()
	s.traceEnd(err)
	s.mu.Lock()
	s.ended = true
	s.handler.timers.stop(s)
	if s.expiry != nil {
		s.expiry.Stop()
	}
	s.mu.Unlock()
	if !websocket.IsCloseError(err, websocket.CloseAbnormalClosure) {
		linger(s.out.conn)
	}
	s.closeNow()
}

// receive acts on one message. The application's functions are called from
// here; one that panics costs its message and nothing else.
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

// refuse says what was wrong with a message: to the log, and to the client if its
// wire has a way to.
func (s *session) refuse(err error, attrs ...any) {
	s.complain(err, attrs...)
	s.reply(wire.RefusalOf(err).Reply())
}

// extendDeadline gives the client until after the next ping to be heard of again.
func (s *session) extendDeadline() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving || !s.endOfMessage.IsZero() {
		return nil
	}
	s.silent = time.Now().Add(s.handler.config.PingInterval + s.handler.config.PongWait)
	s.asked, s.looked = time.Time{}, false
	return s.conn.SetReadDeadline(s.silent)
}

// askAlive asks the client now and then whether it is there. Of one that was not
// heard of for too long a goroutine that reads notices by itself; one that is parked
// is woken to do so.
func (s *session) askAlive() {
	now := time.Now()
	s.mu.Lock()
	ask, gone := !now.Before(s.nextPing), !now.Before(s.silent)
	id := s.identity
	if ask {
		s.nextPing = now.Add(s.handler.config.PingInterval)
		if s.asked.IsZero() {
			s.asked, s.written = now, s.out.progress()
		}
	}
	if !s.ended {
		next := s.nextPing
		if !gone && s.silent.Before(next) {
			next = s.silent
		}
		s.handler.timers.schedule(s, next)
	}
	s.mu.Unlock()
	if ask && s.handler.expired(id.expires) { // the clock was set forward
		s.expire(id)
	}
	if ask {
		s.out.sendPing()
	}
	if gone {
		s.resume()
	}
}

// closeGracefully tells the client to go, once it has what waits for it.
func (s *session) closeGracefully(code int, reason string) {
	s.traceAway(code)
	s.out.end(closeFrame(code, reason))
	s.leave()
}

// leave gives the client, which was told to go, a moment to do so.
func (s *session) leave() {
	s.mu.Lock()
	s.leaving = true
	err := s.conn.SetReadDeadline(time.Now().Add(closeWait))
	s.mu.Unlock()
	if err != nil {
		s.closeNow()
	}
	s.resume()
}

func (s *session) isLeaving() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leaving
}

// closeNow ends the connection without a word. It may be called more than once.
func (s *session) closeNow() {
	_ = s.out.conn.Close()
	s.resume()
}

// farewell returns the close frame that answers the error with which reading
// ended, or nil where there is nothing to say, or gorilla has said it already: that
// the protocol was broken.
func farewell(err error) []byte {
	var closed *websocket.CloseError
	switch {
	case errors.Is(err, errBinary):
		return closeFrame(websocket.CloseUnsupportedData, "text messages only")
	case errors.Is(err, errNotUTF8):
		return closeFrame(websocket.CloseInvalidFramePayloadData, "not UTF-8")
	case errors.Is(err, websocket.ErrReadLimit): // gorilla says so of most lengths
		return closeFrame(websocket.CloseMessageTooBig, "")
	case errors.Is(err, errEnded):
		return closeFrame(websocket.CloseInternalServerErr, "")
	case errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure:
		return closeFrame(closed.Code, "")
	default:
		return nil
	}
}

// linger reads on for a moment after the last frame was written. Closing a
// socket with unread data in it would send a reset, and the client might never
// read why.
func linger(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		if err := half.CloseWrite(); err != nil {
			return
		}
	}
	if err := conn.SetReadDeadline(time.Now().Add(closeWait)); err != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, conn, maxLinger)
}

// maxLinger is how much is read for nothing.
const maxLinger = 256 << 10

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// maxComplaints bounds what one client can write to the log.
const maxComplaints = 10

var errPanicked = errors.New("handling it panicked")

// complain logs what was wrong with a message, never what was in it: a warning of the
// first few, and a debug line of each other one.
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
		err = r.Cause // which the client is not told
	}
	attrs = append([]any{slog.Uint64("session", s.number), slog.String("code", string(r.Code)), slog.Any("error", err),
		slog.String("client", strange(s.remote)), slog.Int("so_far", s.complaints)}, attrs...)
	if r.Key != nil && s.handler.knows(r.Key.Entity) {
		attrs = append(attrs, slog.String("entity", string(r.Key.Entity)))
	}
	log.Log(s.handler.ctx, level, "refusing a client's message", attrs...)
}
