package socket

import (
	"sync"
	"time"
)

// What waits in the kernel for a client on a slow line is on its way for longer than the
// client may read nothing: the kernel lets more be written only when a third of its room
// is free, and a ping waits behind all of it. As long as the client's system acknowledges
// bytes, though, the client is there.

// Progress is how far what was written to a client has come.
type Progress struct {
	acked   uint64
	waiting bool // for more to be acknowledged
}

// Progress is the zero one where the system does not say.
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

// Since reports whether more has been acknowledged since an earlier time, when some was
// on its way.
func (p Progress) Since(before Progress) bool { return before.waiting && p.acked > before.acked }

// extended prolongs the write deadline for as long as the client makes progress, until
// the returned function is called. It is for a connection that cannot be written to any
// more once the deadline has passed.
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
