package socket

import (
	"sync"
	"time"
)

// On a slow line, bytes may wait in the kernel for longer than Limits.Timeout: the kernel lets
// more be written only once a third of its buffer is free, and a ping waits behind all of it.
// But as long as the client's system acknowledges bytes, the client is there.

// Progress is how many of the written bytes a client's system has acknowledged.
type Progress struct {
	acked   uint64
	waiting bool // some bytes are not acknowledged yet
}

// Progress returns the present Progress, or the zero one if the system does not say.
func (s *Socket) Progress() (p Progress) {
	raw := s.raw
	if tcp := s.tcp(); raw == nil && tcp != nil {
		raw, _ = tcp.SyscallConn()
	}
	if raw != nil {
		_ = raw.Control(func(fd uintptr) { p.acked, p.waiting, _ = acked(fd) })
	}
	return p
}

// Since reports whether bytes that waited at an earlier time have been acknowledged since
// then.
func (p Progress) Since(before Progress) bool { return before.waiting && p.acked > before.acked }

// extended prolongs the write deadline for as long as the client makes progress, until the
// returned function is called. It is for a connection that cannot be written to any more once
// a deadline has passed.
func (s *Socket) extended(l Limits) (stop func()) {
	var mu sync.Mutex
	var timer *time.Timer
	stopped, last := false, s.Progress()
	look := func() {
		mu.Lock()
		defer mu.Unlock()
		if stopped {
			return
		}
		now := s.Progress()
		if now.Since(last) && !l.isOver() {
			_ = s.SetWriteDeadline(l.noLaterThanEnd(time.Now().Add(l.Timeout)))
			_ = l.Progress()
		}
		last = now
		timer.Reset(l.Timeout / timeoutParts)
	}
	mu.Lock()
	timer = time.AfterFunc(l.Timeout/timeoutParts, look)
	mu.Unlock()
	return func() {
		mu.Lock()
		defer mu.Unlock()
		stopped = true
		timer.Stop()
	}
}
