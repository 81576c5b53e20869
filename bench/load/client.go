package load

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// client is one connection.
type client struct {
	number  int
	fd      int // less than zero while there is none
	state   state
	partial []byte // what came of a frame that is not complete yet
	answers int    // to its subscriptions, so far
	wanted  int    // answers until it is live
	stopped bool   // reads no more
}

type state uint8

const (
	connecting state = iota
	upgrading
	open
)

// Opcodes of RFC 6455, section 5.2.
const (
	opText  = 0x1
	opClose = 0x8
	opPing  = 0x9
	opPong  = 0xA
)

// clientFrame returns a frame as a client sends it, with a mask of zeros, which
// leaves the message as it is.
func clientFrame(opcode byte, message []byte) []byte {
	const final, masked = 0x80, 0x80
	b := []byte{final | opcode}
	switch n := len(message); {
	case n < 126:
		b = append(b, masked|byte(n))
	default:
		b = append(b, masked|126)
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	}
	return append(append(b, 0, 0, 0, 0), message...)
}

var errWide = errors.New("a frame of 64 KiB or more")

// nextFrame returns the first frame and what follows it, or false where it is not
// complete.
func nextFrame(b []byte) (opcode byte, message, rest []byte, ok bool, err error) {
	if len(b) < 2 {
		return 0, nil, b, false, nil
	}
	head, n := 2, int(b[1])
	switch n {
	case 126:
		if len(b) < 4 {
			return 0, nil, b, false, nil
		}
		head, n = 4, int(binary.BigEndian.Uint16(b[2:]))
	case 127:
		return 0, nil, nil, false, errWide
	}
	if len(b) < head+n {
		return 0, nil, b, false, nil
	}
	return b[0] & 0xF, b[head : head+n], b[head+n:], true, nil
}

// write writes all of b, which is short: where it does not fit into the socket's
// buffer something is wrong.
func (c *client) write(b []byte) error {
	n, err := unix.Write(c.fd, b)
	if err == nil && n < len(b) {
		err = errors.New("the server does not read")
	}
	if err != nil {
		return fmt.Errorf("writing to the server: %w", err)
	}
	return nil
}

func (c *client) request(addr string, w Wire) []byte {
	protocol := ""
	if p := w.subprotocol(); p != "" {
		protocol = "Sec-WebSocket-Protocol: " + p + "\r\n"
	}
	return fmt.Appendf(nil, "GET /?client=%d HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n", c.number, addr, protocol)
}

// readUpgrade takes the response out of what has come so far, and returns false
// where it is not complete.
func (c *client) readUpgrade(b []byte) (rest []byte, ok bool, err error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		return b, false, nil
	}
	if !bytes.HasPrefix(b, []byte("HTTP/1.1 101 ")) {
		line, _, _ := bytes.Cut(b, []byte("\r\n"))
		return nil, false, fmt.Errorf("refused: %s", line)
	}
	return b[end+4:], true, nil
}

// keep remembers what is not complete.
func (c *client) keep(b []byte) { c.partial = slices.Clone(b) }

// hangUp ends the connection with a reset, so that it leaves nothing behind in
// the operating system.
func (c *client) hangUp() error {
	if c.fd < 0 {
		return nil
	}
	err := errors.Join(unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}), unix.Close(c.fd))
	*c = client{number: c.number, fd: -1}
	return err
}
