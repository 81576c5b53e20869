package web

import (
	"bytes"
	"errors"
	"io"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

var (
	errBinary  = errors.New("a binary message")
	errNotUTF8 = errors.New("a text message that is not UTF-8")
	errEnded   = errors.New("a handler ended the session's goroutine")
)

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
// see resume. It returns false where the goroutine must go on reading.
func (s *session) park() bool {
	if s.out.raw == nil || s.reader.Buffered() > 0 {
		return false
	}
	s.mu.Lock()
	s.parked = !s.leaving
	parked := s.parked
	s.mu.Unlock()
	// From the next line on another goroutine may be reading.
	if !parked || s.handler.idle.arm(s) == nil {
		return parked
	}
	return !s.unpark() // else somebody has woken it already
}

// resume has a goroutine read again where there is none. It does not have to mean that
// there is something to be read.
func (s *session) resume() {
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
	if s.waitForToken(&s.messages, "messages") {
		s.receive(message)
	} // else it was told to go: what it says now is not heard
	return s.extendDeadline()
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
	s.waitForToken(&s.messages, "messages")
	s.out.sendPong(appendFrame(nil, websocket.PongMessage, payload))
	return s.extendDeadline()
}

func (s *session) notePong() error {
	s.waitForToken(&s.messages, "messages")
	return s.extendDeadline()
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
	s.endOfMessage, s.looked = time.Time{}, false
	if !reading || s.leaving {
		return nil
	}
	s.endOfMessage = time.Now().Add(s.handler.config.PongWait)
	return s.conn.SetReadDeadline(s.endOfMessage)
}
