package bridge

import (
	"slices"
	"sync"
)

// Limit bounds the fetches that run at once of several entity types of one Bridge,
// such as those that read from one pool of database connections. No type can take
// all places while others have none.
type Limit struct {
	fetchLimit fetchLimit
}

// NewLimit returns a Limit of n fetches, 1 at least.
func NewLimit(n int) *Limit { return &Limit{fetchLimit{limit: max(1, n)}} }

// fetchLimit bounds the fetches that run at once, of all entity types together that
// share it. A worker starts once it is admitted; a queue that was refused gets a
// place, in its turn, when one is given back.
//
// Half of the places are kept for entity types that have few or none, in equal
// shares, so that one whose fetches hang cannot take them all.
type fetchLimit struct {
	limit int

	mu      sync.Mutex // guards what follows, and each queue's places
	queues  []*fetchQueue
	taken   int // places
	waiting []*fetchQueue
}

// places is one queue's part in a fetch limit, and guarded by the limit's lock.
type places struct {
	taken int
	waits bool
}

func (a *fetchLimit) add(q *fetchQueue) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queues = append(a.queues, q)
}

func (a *fetchLimit) remove(q *fetchQueue) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queues = slices.DeleteFunc(a.queues, func(other *fetchQueue) bool { return other == q })
}

// enter takes a place. Refused, the queue is granted one as soon as that can be;
// see leave.
func (a *fetchLimit) enter(q *fetchQueue) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mayEnter(q) {
		a.taken++
		q.places.taken++
		return true
	}
	if !q.places.waits {
		q.places.waits = true
		a.waiting = append(a.waiting, q)
	}
	return false
}

// leave gives a place back. If a queue that waits can have it, it is granted the
// place and returned: call accept on it.
func (a *fetchLimit) leave(q *fetchQueue) (granted *fetchQueue) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.taken--
	q.places.taken--
	return a.grant()
}

// yield is leave for a worker that has more to do: it keeps its place unless a
// queue that waits can have it.
func (a *fetchLimit) yield(q *fetchQueue) (granted *fetchQueue) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) == 0 {
		return nil
	}
	a.taken--
	q.places.taken--
	if granted = a.grant(); granted == nil {
		a.taken++
		q.places.taken++
	}
	return granted
}

// grant gives a place to the first that waits and can have one.
func (a *fetchLimit) grant() *fetchQueue {
	for i, q := range a.waiting {
		if a.mayEnter(q) {
			a.waiting = slices.Delete(a.waiting, i, i+1)
			q.places.waits = false
			a.taken++
			q.places.taken++
			return q
		}
	}
	return nil
}

func (a *fetchLimit) mayEnter(q *fetchQueue) bool {
	if a.taken >= a.limit {
		return false
	}
	share := a.limit / (2 * len(a.queues))
	if share == 0 && a.limit >= len(a.queues) {
		share = 1
	}
	if q.places.taken < share {
		return true
	}
	kept := 0
	for _, other := range a.queues {
		if other != q {
			kept += max(0, min(share, other.entity.options.Workers)-other.places.taken)
		}
	}
	return a.taken+kept < a.limit
}
