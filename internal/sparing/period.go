package sparing

import (
	"sync"
	"time"
)

// Period picks one event in each period for the log, the first at once, from any goroutine.
type Period struct {
	Every time.Duration

	mu   sync.Mutex
	next time.Time
	n    uint64
}

// Again counts one more event. It returns how many there were since the last one that was
// logged, this one included, and whether to log this one.
func (p *Period) Again(now time.Time) (n uint64, say bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n++
	if now.Before(p.next) {
		return p.n, false
	}
	n, p.n = p.n, 0
	p.next = now.Add(p.Every)
	return n, true
}
