package web

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/shared"
)

// session is one connected client.
type session struct {
	handler *Handler
	conn    *websocket.Conn
	reader  *bufio.Reader // that conn reads from
	codec   codec
	client  client
	out     *outbox
	remote  string // where the client is

	socket int // of a session that was ever parked, its number; guarded by the parking's lock

	// Of the reading goroutine.
	complaints int // messages that made no sense
	messages   pace
	subscribes pace

	mu       sync.Mutex // guards what follows
	identity identity
	alive    *time.Timer // for the next ping, or the end of the wait for an answer
	nextPing time.Time
	silent   time.Time   // when the client counts as gone, unless it is heard of before
	parked   bool        // there is no goroutine that reads, until wake
	expiry   *time.Timer // of the identity
	renewing bool        // a verified identity is about to follow this one
	overdue  bool        // and the one before it has expired meanwhile: the outbox is held
	leaving  bool        // told to go away

	endOfMessage time.Time // when the next part of the message that is being read must be there; zero between two
	ended        bool      // no timer starts any more
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

// newSession makes a session of an upgraded connection. begin or turnAway must follow.
func newSession(h *Handler, conn *websocket.Conn, reader *bufio.Reader, id identity, remote string) *session {
	s := &session{
		handler: h, conn: conn, reader: reader, codec: codecFor(conn.Subprotocol()), identity: id, remote: remote,
		messages: newPace(h.config.MessageRate), subscribes: newPace(h.config.SubscribeRate),
	}
	boundKernelBuffer(conn.NetConn())
	s.out = newOutbox(conn.NetConn(), s)
	s.client = h.connect(s)
	conn.SetReadLimit(h.config.MaxMessageBytes)
	// gorilla's own handlers write to the connection; everything here goes
	// through the outbox.
	conn.SetPingHandler(func(data string) error { return s.answerPing([]byte(data)) })
	conn.SetPongHandler(func(string) error { return s.notePong() })
	conn.SetCloseHandler(func(int, string) error { return nil }) // answered by run
	return s
}

// begin has the client's messages read from now on.
func (s *session) begin() {
	s.mu.Lock()
	s.nextPing = time.Now().Add(s.handler.config.PingInterval)
	s.alive = time.AfterFunc(s.handler.config.PingInterval, s.askAlive)
	s.scheduleExpiryLocked()
	s.mu.Unlock()
	if err := s.heard(); err != nil || !s.park() {
		go s.read()
	}
}

// read takes the client's messages, one after another, until it has said all for
// now or is gone. In the latter case it lets go of everything: the handler waits for
// that.
func (s *session) read() {
	parked, err := false, errEnded
	defer func() { // also where the application's code ends the goroutine
		if !parked {
			s.end(err)
			s.handler.forget(s)
		}
	}()
	for !parked {
		if err = s.readOne(); err != nil {
			return
		}
		parked = s.park()
	}
}

// park ends the reading, if nothing is left to be read, until the client says more:
// see wake. It returns false where the goroutine must go on reading.
func (s *session) park() bool {
	if s.out.raw == nil || s.reader.Buffered() > 0 {
		return false
	}
	s.mu.Lock()
	s.parked = !s.leaving
	parked := s.parked
	s.mu.Unlock()
	// From the next line on another goroutine may be reading.
	if !parked || s.handler.parking.watch(s) == nil {
		return parked
	}
	return !s.unpark() // else somebody has woken it already
}

// wake has a goroutine read again where there is none. It does not have to mean that
// there is something to be read.
func (s *session) wake() {
	if s.unpark() {
		go s.read()
	}
}

func (s *session) unpark() (was bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was, s.parked = s.parked, false
	return was
}

// end lets go of everything, err being why nothing more is read.
func (s *session) end(err error) {
	if isTimeout(err) && !s.isLeaving() {
		s.hangUp() // nobody there to say goodbye to
	}
	if errors.Is(err, websocket.ErrReadLimit) {
		// gorilla has said so already, but not of a length that does not fit into
		// its number. What it has said it does not say again.
		_ = s.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseMessageTooBig, ""), time.Now().Add(closeWait))
	}
	s.out.end(farewell(err))
	if !s.isLeaving() {
		s.client.Close() // takes back what waits: there is nobody to read it
	}
	s.out.wait()
	s.client.Close()
	s.mu.Lock()
	s.ended = true
	s.alive.Stop()
	if s.expiry != nil {
		s.expiry.Stop()
	}
	s.mu.Unlock()
	if !websocket.IsCloseError(err, websocket.CloseAbnormalClosure) {
		linger(s.conn.NetConn())
	}
	s.hangUp()
}

var (
	errBinary  = errors.New("a binary message")
	errNotUTF8 = errors.New("a text message that is not UTF-8")
	errEnded   = errors.New("a handler ended the session's goroutine")
)

// readOne takes what the client says next: one message, or a ping or pong.
func (s *session) readOne() error {
	if done, err := s.readControl(); done {
		return err
	}
	kind, message, err := s.readMessage()
	switch {
	case err != nil:
		return err
	case kind != websocket.TextMessage:
		return errBinary
	case !utf8.Valid(message):
		return errNotUTF8
	}
	if s.keepPace(&s.messages, "messages") {
		s.receive(message)
	} // else it was told to go: what it says now is not heard
	return s.heard()
}

// readControl takes a ping or pong, if one comes next. gorilla takes those as well,
// but then reads on until a message comes, and the session could not be parked. Where
// anything is wrong with the frame it is left to gorilla, which says so.
func (s *session) readControl() (done bool, err error) {
	const ( // of RFC 6455, section 5.2
		final, masked = 0x80, 0x80
		maskBytes     = 4
		maxPayload    = 125
	)
	head, err := s.reader.Peek(2)
	if err != nil {
		return false, nil //nolint:nilerr // gorilla will meet it again
	}
	opcode, length := head[0]&^final, int(head[1]&^masked)
	if head[0]&final == 0 || head[1]&masked == 0 || length > maxPayload || opcode != websocket.PingMessage && opcode != websocket.PongMessage {
		return false, nil
	}
	frame, err := s.reader.Peek(len(head) + maskBytes + length)
	if err != nil {
		return false, nil //nolint:nilerr // as above
	}
	mask, payload := frame[2:2+maskBytes], bytes.Clone(frame[2+maskBytes:])
	for i := range payload {
		payload[i] ^= mask[i%maskBytes]
	}
	if _, err := s.reader.Discard(len(frame)); err != nil {
		return true, err
	}
	if opcode == websocket.PingMessage {
		return true, s.answerPing(payload)
	}
	return true, s.notePong()
}

func (s *session) answerPing(payload []byte) error {
	s.keepPace(&s.messages, "messages")
	s.out.sendPong(appendFrame(nil, websocket.PongMessage, payload))
	return s.heard()
}

func (s *session) notePong() error {
	s.keepPace(&s.messages, "messages")
	return s.heard()
}

// readMessage is the connection's ReadMessage, with a limit to the time that a part
// of a message takes: pieces of it without anything in them would cost much to
// read, and be no sign of a living client.
func (s *session) readMessage() (kind int, message []byte, err error) {
	kind, r, err := s.conn.NextReader()
	if err != nil {
		return kind, nil, err
	}
	for next := 0; ; {
		if len(message) >= next {
			if err := s.begun(true); err != nil {
				return kind, nil, err
			}
			next += messageStep
		}
		message = s.withRoom(message)
		n, err := io.ReadFull(r, message[len(message):min(cap(message), next)])
		message = message[:len(message)+n]
		switch {
		case err == nil:
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF): // gorilla's are others where the connection ends
			return kind, message, s.begun(false)
		default:
			return kind, nil, err
		}
	}
}

// withRoom returns a message, of which more may come, with room for it: twice as
// much each time, so that it is not copied often, but hardly more than a message may
// have: many clients may be in the midst of one.
func (s *session) withRoom(message []byte) []byte {
	if len(message) < cap(message) {
		return message
	}
	const first = 512                            // most fit
	most := s.handler.config.MaxMessageBytes + 1 // for its end to be found
	size := min(max(first, 2*int64(cap(message))), most)
	return append(make([]byte, 0, size), message...)
}

// messageStep is how many bytes of a message must come within PongWait.
const messageStep = 4 << 10

// begun notes whether a message is being read.
func (s *session) begun(reading bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endOfMessage = time.Time{}
	if !reading || s.leaving {
		return nil
	}
	s.endOfMessage = time.Now().Add(s.handler.config.PongWait)
	return s.conn.SetReadDeadline(s.endOfMessage)
}

// receive acts on one message. The application's functions are called from
// here; one that panics costs its message and nothing else.
func (s *session) receive(message []byte) {
	defer func() {
		if r := recover(); r != nil {
			s.refuse(errPanicked, slog.String("stack", string(debug.Stack())))
		}
	}()
	if err := s.codec.receive(s, message); err != nil {
		s.refuse(err)
	}
}

// refuse says what was wrong with a message: to the log, and to the client if its
// wire has a way to.
func (s *session) refuse(err error, attrs ...any) {
	s.complain(err, attrs...)
	s.codec.answer(s, err)
}

// heard gives the client until after the next ping to be heard of again.
func (s *session) heard() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving || !s.endOfMessage.IsZero() {
		return nil
	}
	s.silent = time.Now().Add(s.handler.config.PingInterval + s.handler.config.PongWait)
	return s.conn.SetReadDeadline(s.silent)
}

// askAlive asks the client now and then whether it is there. Of one that was not
// heard of for too long a goroutine that reads notices by itself; one that is parked
// is woken to do so.
func (s *session) askAlive() {
	now := time.Now()
	s.mu.Lock()
	ask, gone := !now.Before(s.nextPing), !now.Before(s.silent)
	if ask {
		s.nextPing = now.Add(s.handler.config.PingInterval)
	}
	if !s.ended {
		next := s.nextPing
		if !gone && s.silent.Before(next) {
			next = s.silent
		}
		s.alive.Reset(next.Sub(now))
	}
	s.mu.Unlock()
	if ask {
		s.out.sendPing()
	}
	if gone {
		s.wake()
	}
}

// goAway tells the client to go, once it has what waits for it.
func (s *session) goAway(code int, reason string) {
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
		s.hangUp()
	}
	s.wake()
}

// turnAway ends a session that has not begun, because the handler was closed
// meanwhile and waits for it no more: so it is told by the goroutine that is here.
func (s *session) turnAway() {
	s.client.Close()
	conn := s.conn.NetConn()
	if err := conn.SetWriteDeadline(time.Now().Add(closeWait)); err == nil {
		_, _ = conn.Write(closeFrame(websocket.CloseServiceRestart, "restarting"))
	}
	s.hangUp()
}

func (s *session) isLeaving() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leaving
}

// hangUp ends the connection without a word. It may be called more than once.
func (s *session) hangUp() {
	_ = s.conn.NetConn().Close()
	s.wake()
}

// farewell returns the close frame that answers the error with which reading
// ended, or nil where there is nothing to say, or gorilla has said it already: that
// the protocol was broken, or a message too large.
func farewell(err error) []byte {
	var closed *websocket.CloseError
	switch {
	case errors.Is(err, errBinary):
		return closeFrame(websocket.CloseUnsupportedData, "text messages only")
	case errors.Is(err, errNotUTF8):
		return closeFrame(websocket.CloseInvalidFramePayloadData, "not UTF-8")
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

// complain logs what was wrong with a message, never what was in it.
func (s *session) complain(err error, attrs ...any) {
	var r *refusal
	if errors.As(err, &r) && r.cause != nil {
		err = r.cause // which the client is not told
	}
	s.complaints++
	if s.complaints <= maxComplaints && s.handler.logs.Allow() {
		attrs = append([]any{slog.Any("error", err), slog.String("client", s.remote), slog.Int("so_far", s.complaints)}, attrs...)
		s.handler.config.Logger.Warn("refusing a client's message", attrs...)
	}
}
