package websocket

import (
	"bytes"
	"net"
	"time"
)

// lower is the net.Conn that gorilla gets. The Conn writes past it. The Conn also has the
// reader above it, to see whether more is buffered, and what comes next.
type lower Conn

var _ net.Conn = (*lower)(nil)

// Read goes on after a deadline that says nothing of the client: see readOn. gorilla must not
// see such a deadline, because it never reads again after an error.
func (l *lower) Read(p []byte) (int, error) {
	for {
		n, err := l.socket.Read(p)
		if n > 0 || !IsTimeout(err) || l.ws == nil || !(*Conn)(l).readOn() {
			return n, err
		}
	}
}

// Write writes the answer to the upgrade. After that gorilla writes only close frames: that
// the protocol was broken, or a message too large. Another goroutine may be writing a frame at
// that time, so these are kept for Farewell.
func (l *lower) Write(p []byte) (int, error) {
	if l.ws == nil {
		return l.socket.Conn.Write(p)
	}
	said := bytes.Clone(p)
	l.farewell = &said
	return len(p), nil
}

// SetWriteDeadline does nothing: it would cut short a frame that is being written.
func (l *lower) SetWriteDeadline(time.Time) error { return nil }

func (l *lower) SetReadDeadline(t time.Time) error { return l.socket.SetReadDeadline(t) }
func (l *lower) SetDeadline(t time.Time) error     { return l.socket.SetDeadline(t) }
func (l *lower) LocalAddr() net.Addr               { return l.socket.LocalAddr() }
func (l *lower) RemoteAddr() net.Addr              { return l.socket.RemoteAddr() }
func (l *lower) Close() error                      { return l.socket.Close() }
