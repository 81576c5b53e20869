// Package socket is the lower end of a client's connection, whatever is said on it: it
// writes what the kernel takes at once, or until the client has read nothing for too long,
// and waits for all idle clients together.
package socket

import (
	"crypto/tls"
	"io"
	"net"
	"syscall"
	"time"
)

// Socket is a client's connection.
type Socket struct {
	net.Conn
	raw    syscall.RawConn // to write what it takes at once; nil where that cannot be
	number int             // as the kernel knows it, once it was armed; guarded by the poller's lock
}

const (
	// KernelBuffer bounds what waits in the kernel for one client. What is in there
	// cannot be replaced by something newer any more, and a ping waits behind it: a
	// client on a slow line must get through it before it counts as gone.
	KernelBuffer = 128 << 10

	// kernelReadBuffer bounds what a client can have said that was not read yet: one
	// that is slowed down counts as living for as long as there is something to read.
	kernelReadBuffer = 64 << 10
)

// New returns the socket of a connection, and bounds what waits in the kernel for it, where
// the connection is one of TCP or of TLS over TCP.
func New(conn net.Conn) Socket {
	s := Socket{Conn: conn}
	if tcp, ok := conn.(*net.TCPConn); ok { // TLS has to make its records first
		s.raw, _ = tcp.SyscallConn()
	}
	if tcp := s.tcp(); tcp != nil { // does its best: where it cannot, more waits in the kernel
		_ = tcp.SetWriteBuffer(KernelBuffer)
		_ = tcp.SetReadBuffer(kernelReadBuffer)
	}
	return s
}

// Immediate reports whether TryWrite and a Poller are of use to the connection.
func (s *Socket) Immediate() bool { return s.raw != nil }

func (s *Socket) tcp() *net.TCPConn {
	conn := s.Conn
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	tcp, _ := conn.(*net.TCPConn)
	return tcp
}

// maxLinger is how much is read for nothing.
const maxLinger = 256 << 10

// Linger says that nothing more will be written, and reads on until the client hangs up,
// at most for some time. Closing a socket with unread data in it would send a reset, and
// the client might never read what was written last.
func (s *Socket) Linger(limit time.Duration) {
	if half, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		if err := half.CloseWrite(); err != nil {
			return
		}
	}
	if err := s.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, s.Conn, maxLinger)
}
