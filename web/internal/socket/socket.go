// Package socket is the lower end of a client's connection, and knows no protocol. It writes
// as much as the kernel takes at once, or goes on until the client has read nothing for too
// long. It waits for messages from all idle clients together.
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
	raw    syscall.RawConn // for TryWrite; nil if the connection does not support it
	number int             // the file descriptor, once it was armed; guarded by the poller's lock
}

const (
	// KernelBuffer bounds the bytes that wait in the kernel for one client. Newer rows cannot
	// replace those any more, and a ping waits behind them: a client on a slow line must get
	// through them before it counts as gone.
	KernelBuffer = 128 << 10

	// kernelReadBuffer bounds the bytes of a client that were not read yet: a client that is
	// slowed down counts as living for as long as there is something to read.
	kernelReadBuffer = 64 << 10
)

// New returns the socket of a connection. For TCP, and TLS over TCP, it bounds how much waits
// in the kernel.
func New(conn net.Conn) Socket {
	s := Socket{Conn: conn}
	if tcp, ok := conn.(*net.TCPConn); ok { // with TLS, bytes must become records first
		s.raw, _ = tcp.SyscallConn()
	}
	if tcp := s.tcp(); tcp != nil { // errors are ignored: more then waits in the kernel
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

// maxLinger is how many bytes Linger reads and discards.
const maxLinger = 256 << 10

// Linger says that nothing more will be written, and reads on until the client hangs up or the
// limit is over. Closing a socket with unread data would send a reset, and the client might
// then never read the last frames.
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
