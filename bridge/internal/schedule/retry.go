package schedule

import (
	"container/heap"
	"time"
)

const (
	// outage is how many failures in a row mean that fetching is broken for the entity
	// type, and not for one key.
	outage = 3

	// releasedBySuccess is how many of the values that wait for their time are tried
	// early for each fetch that succeeds after an outage. Each of them may release as many
	// again, so that a database that has come back is asked for more as it keeps up.
	releasedBySuccess = 2

	// probeInterval is how often news of a key that waits for its time is taken as an
	// occasion to try. Without news, and without an outage, each waits its time.
	probeInterval = 100 * time.Millisecond
)

// retry is when a value whose fetch failed is tried again.
type retry struct {
	at    time.Time
	place int // in the heap, from 1; zero where it is not there
}

// RetryAfter has Retry called for v after a while, unless it is pushed or removed before.
func (s *Schedule[T]) RetryAfter(e *Entry[T], v T, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retries.drop(e)
	e.value, e.retry.at = v, time.Now().Add(wait)
	heap.Push(&s.retries, e)
	s.wakeByLocked(e.retry.at)
}

// MayProbe reports whether it is time again to try one of the values that wait for their
// time, for news of it.
func (s *Schedule[T]) MayProbe() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Sub(s.probed) < probeInterval {
		return false
	}
	s.probed = now
	return true
}

// Succeeded notes a fetch that worked after so many failures in a row. When an outage ends,
// the values that wait need not wait for their time: Retry is called for some of them.
func (s *Schedule[T]) Succeeded(failures uint64) {
	for _, v := range s.takeReleased(failures) {
		s.config.Retry(v)
	}
}

func (s *Schedule[T]) takeReleased(failures uint64) (early []T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if failures >= outage {
		s.release = s.retries.Len()
	}
	for len(early) < releasedBySuccess && s.release > 0 && s.retries.Len() > 0 {
		s.release--
		early = append(early, heap.Pop(&s.retries).(*Entry[T]).value)
	}
	return early
}

// takeRetriesLocked takes out the values whose time has come.
func (s *Schedule[T]) takeRetriesLocked(now time.Time) (again []T) {
	for s.retries.Len() > 0 {
		if first := s.retries[0]; now.Before(first.retry.at) {
			s.wakeByLocked(first.retry.at)
			break
		}
		again = append(again, heap.Pop(&s.retries).(*Entry[T]).value)
	}
	return again
}

// retryHeap implements heap.Interface: the first entry is the one whose time comes first.
type retryHeap[T any] []*Entry[T]

func (h retryHeap[T]) Len() int           { return len(h) }
func (h retryHeap[T]) Less(i, j int) bool { return h[i].retry.at.Before(h[j].retry.at) }

func (h retryHeap[T]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].retry.place, h[j].retry.place = i+1, j+1
}

// Push implements heap.Interface.
func (h *retryHeap[T]) Push(x any) {
	e := x.(*Entry[T])
	*h = append(*h, e)
	e.retry.place = len(*h)
}

// Pop implements heap.Interface.
func (h *retryHeap[T]) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	e.retry.place = 0
	return e
}

// drop takes an entry out, and reports whether it was there.
func (h *retryHeap[T]) drop(e *Entry[T]) bool {
	if e.retry.place == 0 {
		return false
	}
	heap.Remove(h, e.retry.place-1)
	return true
}
