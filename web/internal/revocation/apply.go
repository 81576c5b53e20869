package revocation

import (
	"context"
	"time"
)

// Give ends the sessions of this node, and has those of all others end, that go by a secret.
// It returns when every node has heard of the revocation or will.
func (l *List) Give(ctx context.Context, code int, secret string) error {
	v := newRevocation(code, secret)
	l.note(func() bool { // here, whatever the bus does
		now := l.config.Clock()
		l.giveLocked(v, now)
		return l.hearLocked(v, now)
	})
	return l.config.Publish(ctx, v.text())
}

// Hear takes what a node has published. Texts that mean nothing are ignored.
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

// note changes what is to be applied. A goroutine does that which lives as long as there is
// something to do, because the bus does not wait.
func (l *List) note(change func() (more bool)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !change():
	case l.applying:
		select {
		case l.news <- struct{}{}:
		default: // there is some already
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

// takeDue returns what is to be applied now, and how long it is until there is more.
// Without anything the goroutine that asked counts as ended.
func (l *List) takeDue() (due map[subject]reach, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	due, wait = l.dueLocked(l.config.Clock())
	l.applying = len(due) > 0 || wait > 0
	return due, wait
}

// end ends those sessions that a revocation is about.
func (l *List) end(about subject, r reach) {
	for _, s := range l.sessions(about.digest) {
		if d, since := s.Who(); d == about.digest && r.covers(since) {
			s.Revoke(about.code)
		}
	}
}
