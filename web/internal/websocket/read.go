package websocket

import (
	"bytes"
	"errors"
	"io"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/internal/instant"
)

// read reads the client's messages, one after another, until none is left for now or the
// client is gone. In the latter case it tells the owner.
func (c *Conn) read() {
	parked, err := false, errEnded
	defer func() { // also where the application's code ends the goroutine
		if !parked {
			c.owner.Ended(err)
		}
	}()
	for !parked {
		c.takeBuffer()
		if err = c.readOne(); err != nil {
			return
		}
		parked = c.park()
	}
}

// park ends the reading, if nothing is left to be read, until the client sends more: see
// resume. It returns false if the goroutine must go on reading.
func (c *Conn) park() bool {
	if !c.socket.Immediate() || c.reader.Buffered() > 0 {
		return false
	}
	c.returnBuffer()
	c.mu.Lock()
	c.parked = !c.leaving
	parked := c.parked
	c.mu.Unlock()
	// Once the socket is armed, another goroutine may be reading.
	if !parked || c.config.Poller.Arm(&c.socket, (*waiter)(c)) == nil {
		return parked
	}
	return !c.unpark() // false unless another goroutine has resumed it already
}

// resume starts a goroutine that reads, unless there is one. There may be nothing to read.
func (c *Conn) resume() {
	if c.unpark() {
		go c.read()
	}
}

// waiter implements socket.Waiter for a Conn.
type waiter Conn

// Resume implements socket.Waiter.
func (w *waiter) Resume() { (*Conn)(w).resume() }

func (c *Conn) unpark() (was bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was, c.parked = c.parked, false
	return was
}

// readOne reads one message, ping or pong.
func (c *Conn) readOne() error {
	if done, err := c.readControl(); done {
		return err
	}
	kind, message, err := c.readMessage()
	switch {
	case err != nil:
		return err
	case kind != websocket.TextMessage:
		return errBinary
	case !utf8.Valid(message):
		return errNotUTF8
	}
	c.owner.Receive(message)
	return c.extendDeadline()
}

// readControl reads a ping or pong, if one comes next. gorilla would read on after those until
// a message comes, and the session could not be parked. A faulty frame is left to gorilla,
// which answers it.
func (c *Conn) readControl() (done bool, err error) {
	const ( // of RFC 6455, section 5.2
		final, masked = 0x80, 0x80
		maskBytes     = 4
		maxPayload    = 125
	)
	head, err := c.reader.Peek(2)
	if err != nil {
		return false, nil //nolint:nilerr // gorilla will get the error again
	}
	opcode, length := head[0]&^final, int(head[1]&^masked)
	if head[0]&final == 0 || head[1]&masked == 0 || length > maxPayload || opcode != websocket.PingMessage && opcode != websocket.PongMessage {
		return false, nil
	}
	frame, err := c.reader.Peek(len(head) + maskBytes + length)
	if err != nil {
		return false, nil //nolint:nilerr // as above
	}
	mask, payload := frame[2:2+maskBytes], bytes.Clone(frame[2+maskBytes:])
	for i := range payload {
		payload[i] ^= mask[i%maskBytes]
	}
	if _, err := c.reader.Discard(len(frame)); err != nil {
		return true, err
	}
	if opcode == websocket.PingMessage {
		return true, c.control(appendFrame(nil, websocket.PongMessage, payload))
	}
	return true, c.control(nil)
}

// control tells the owner of a ping or a pong.
func (c *Conn) control(answer []byte) error {
	c.owner.Control(answer)
	return c.extendDeadline()
}

// readMessage is gorilla's ReadMessage with a limit to the time that a part of a message
// takes. A client could otherwise send empty pieces of a message for ever: they would cost
// much to read, and are no sign of a living client.
func (c *Conn) readMessage() (kind int, message []byte, err error) {
	kind, r, err := c.ws.NextReader()
	if err != nil {
		return kind, nil, err
	}
	for next := 0; ; {
		if len(message) >= next {
			if err := c.begun(true); err != nil {
				return kind, nil, err
			}
			next += messageStep
		}
		message = c.withRoom(message)
		n, err := io.ReadFull(r, message[len(message):min(cap(message), next)])
		message = message[:len(message)+n]
		switch {
		case err == nil:
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF): // at the end of the connection gorilla's errors are others
			return kind, message, c.begun(false)
		default:
			return kind, nil, err
		}
	}
}

// withRoom returns a message with room for more of it. The room doubles each time, so that the
// message is not copied often. It hardly exceeds MaxMessageBytes, because many clients may be
// in the midst of a message.
func (c *Conn) withRoom(message []byte) []byte {
	if len(message) < cap(message) {
		return message
	}
	const first = 512                    // most messages fit
	most := c.config.MaxMessageBytes + 1 // one more, to find the end of the message
	size := min(max(first, 2*int64(cap(message))), most)
	return append(make([]byte, 0, size), message...)
}

// messageStep is how many bytes of a message must come within PongWait.
const messageStep = 4 << 10

// begun notes whether a message is being read.
func (c *Conn) begun(reading bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endOfMessage, c.looked = 0, false
	if !reading || c.leaving {
		return nil
	}
	c.endOfMessage = instant.Now().Add(c.config.PongWait)
	return c.ws.SetReadDeadline(c.endOfMessage.Time())
}
