package websocket

import (
	"bytes"
	"net"
	"time"
)

// lower is the Conn as the connection that gorilla has. The Conn writes past it, and has
// the reader above it, to see whether there is more to read already, and what comes next.
type lower Conn

var _ net.Conn = (*lower)(nil)

// Read reads on where the time was over because this node has slept, or before the client
// was asked: see readOn. gorilla must not see that, for it never reads again.
func (l *lower) Read(p []byte) (int, error) {
	for {
		n, err := l.socket.Read(p)
		if n > 0 || !IsTimeout(err) || l.ws == nil || !(*Conn)(l).readOn() {
			return n, err
		}
	}
}

// Write writes the answer to the upgrade. What gorilla writes after that are farewells
// of its own: that the protocol was broken, or a message too large. Somebody may be in the
// midst of writing another frame, and so they are kept for Farewell.
func (l *lower) Write(p []byte) (int, error) {
	if l.ws == nil {
		return l.socket.Conn.Write(p)
	}
	said := bytes.Clone(p)
	l.farewell = &said
	return len(p), nil
}

// SetWriteDeadline does nothing: it would cut short what is being written.
func (l *lower) SetWriteDeadline(time.Time) error { return nil }

func (l *lower) SetReadDeadline(t time.Time) error { return l.socket.SetReadDeadline(t) }
func (l *lower) SetDeadline(t time.Time) error     { return l.socket.SetDeadline(t) }
func (l *lower) LocalAddr() net.Addr               { return l.socket.LocalAddr() }
func (l *lower) RemoteAddr() net.Addr              { return l.socket.RemoteAddr() }
func (l *lower) Close() error                      { return l.socket.Close() }
