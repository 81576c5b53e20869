package client

import (
	"sync"

	"github.com/entity-sync/entity-sync/shared"
)

// maxWaiting bounds the events that wait for one TopicSubscription's caller.
const maxWaiting = 256

// inbox is what waits for one TopicSubscription's caller. No two gaps stand side by side, so what
// waits is bounded.
type inbox struct {
	topic shared.Topic

	mu      sync.Mutex // guards what follows
	waiting []Received
	events  int           // of waiting
	changed chan struct{} // closed at the next change; nil until a caller waits
	ended   bool
	why     error
}

// put adds an event or a gap.
func (b *inbox) put(r Received) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return
	}
	last := len(b.waiting) - 1
	switch {
	case !r.Gap:
		b.waiting = append(b.waiting, r)
		b.events++
	case last >= 0 && b.waiting[last].Gap:
		b.waiting[last] = join(b.waiting[last], r)
	default:
		b.waiting = append(b.waiting, r)
	}
	if b.events > maxWaiting {
		b.dropOldestLocked()
	}
	b.wakeLocked()
}

// dropOldestLocked makes one gap of the oldest event and the gaps beside it.
func (b *inbox) dropOldestLocked() {
	gap, next := Received{Topic: b.topic, Gap: true, Missed: 1}, 1
	if b.waiting[0].Gap {
		gap, next = join(b.waiting[0], gap), 2
	}
	if b.waiting[next].Gap { // the newest event follows
		gap, next = join(gap, b.waiting[next]), next+1
	}
	b.waiting[next-1] = gap
	clear(b.waiting[:next-1])
	b.waiting = b.waiting[next-1:]
	b.events--
}

// join makes one gap of two. If the number of one is not known, neither is that of both.
func join(a, b Received) Received {
	if a.Missed == 0 || b.Missed == 0 {
		a.Missed = 0
	} else {
		a.Missed += b.Missed
	}
	return a
}

// next returns what has waited longest. If nothing waits, it returns a channel that is closed at
// the next change, or nil if nothing follows.
func (b *inbox) next() (r Received, ok bool, changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case len(b.waiting) > 0:
		r = b.waiting[0]
		b.waiting[0] = Received{}
		if b.waiting = b.waiting[1:]; !r.Gap {
			b.events--
		}
		return r, true, nil
	case b.ended:
		return r, false, nil
	case b.changed == nil:
		b.changed = make(chan struct{})
	}
	return r, false, b.changed
}

// end drops what waits, and says that nothing follows. The first why counts.
func (b *inbox) end(why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return
	}
	b.ended, b.why = true, why
	b.waiting, b.events = nil, 0
	b.wakeLocked()
}

func (b *inbox) err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.why
}

func (b *inbox) wakeLocked() {
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}
