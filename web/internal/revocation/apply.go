package revocation

import (
	"context"
	"time"
)

// Give ends the sessions that go by a secret, on this node and on all others. It returns when
// every node has heard of the revocation or will.
func (l *List) Give(ctx context.Context, code int, secret string) error {
	v := newRevocation(code, secret)
	l.note(func() bool { // on this node, even if the bus fails
		now := l.config.Clock()
		l.giveLocked(v, now)
		return l.hearLocked(v, now)
	})
	return l.config.Publish(ctx, v.text())
}

// Hear takes a text that a node has published. It ignores texts that it cannot read.
func (l *List) Hear(text string) {
	if text == again {
		l.want(repetition{tell: true})
		return
	}
	if v, err := parse(text); err == nil {
		l.note(func() bool { return l.hearLocked(v, l.config.Clock()) })
	}
}

// Missed says that texts may have been missed.
func (l *List) Missed() {
	if l.config.Occupied() {
		l.want(repetition{ask: true})
	}
}

// note changes the revocations to be applied. A goroutine applies them, because the bus does
// not wait. The goroutine lives as long as there are any.
func (l *List) note(change func() (more bool)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !change():
	case l.applying:
		select {
		case l.news <- struct{}{}:
		default: // the goroutine has been woken already
		}
	default:
		l.applying = l.config.Start(l.apply)
	}
}

// apply applies revocations until there are none.
func (l *List) apply() {
	for {
		due, wait := l.takeDue()
		for about, r := range due {
			l.end(about, r)
		}
		switch {
		case len(due) > 0:
		case wait == 0:
			return
		default:
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-l.news:
			case <-l.config.Leaving.Done():
			}
			timer.Stop()
		}
		if l.config.Leaving.Err() != nil {
			return // all sessions end
		}
	}
}

// takeDue returns the revocations to be applied now, and how long it is until the next ones.
// If there are none, the goroutine that asked counts as ended.
func (l *List) takeDue() (due map[subject]reach, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	due, wait = l.dueLocked(l.config.Clock())
	l.applying = len(due) > 0 || wait > 0
	return due, wait
}

// end ends the sessions that a revocation is about.
func (l *List) end(about subject, r reach) {
	for _, s := range l.sessions(about.digest) {
		if d, since := s.Who(); d == about.digest && r.covers(since) {
			s.Revoke(about.code)
		}
	}
}
