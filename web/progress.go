package web

import (
	"crypto/tls"
	"net"
	"sync"
	"syscall"
	"time"
)

// What waits in the kernel for a client on a slow line is on its way for longer than the
// client may read nothing: the kernel lets more be written only when a third of its room
// is free, and a ping waits behind all of it. As long as the client's system acknowledges
// bytes, though, the client is there.

// progress is how far what was written to a client has come.
type progress struct {
	acked   uint64
	waiting bool // for more to be acknowledged
}

// progress is the zero one where the system does not say.
func (q *sendQueue) progress() (p progress) {
	raw := q.raw
	if secure, ok := q.conn.(*tls.Conn); ok {
		raw = rawOf(secure.NetConn())
	}
	if raw != nil {
		_ = raw.Control(func(fd uintptr) { p.acked, p.waiting, _ = acked(fd) })
	}
	return p
}

func rawOf(conn net.Conn) syscall.RawConn {
	if tcp, ok := conn.(*net.TCPConn); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// since reports whether more has been acknowledged since an earlier time, when some was
// on its way.
func (p progress) since(before progress) bool { return before.waiting && p.acked > before.acked }

// extended prolongs the write deadline by a limit for as long as the client makes
// progress, until the returned function is called. It is for a connection that cannot be
// written to any more once the deadline has passed.
func (q *sendQueue) extended(limit time.Duration) (stop func()) {
	var mu sync.Mutex
	var timer *time.Timer
	stopped, last := false, q.progress()
	look := func() {
		mu.Lock()
		defer mu.Unlock()
		if stopped {
			return
		}
		now := q.progress()
		if now.since(last) && !q.isOver() {
			_ = q.conn.SetWriteDeadline(q.noLaterThanEnd(time.Now().Add(limit)))
			_ = q.session.extendDeadline()
		}
		last = now
		timer.Reset(limit / timeoutParts)
	}
	mu.Lock()
	timer = time.AfterFunc(limit/timeoutParts, look)
	mu.Unlock()
	return func() {
		mu.Lock()
		defer mu.Unlock()
		stopped = true
		timer.Stop()
	}
}
