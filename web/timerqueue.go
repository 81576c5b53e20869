package web

import (
	"container/heap"
	"sync"
	"time"
)

// timerQueue has each session look after its client when it is time to. It is one timer for
// all of them: one for each would be a twentieth of what an idle client costs.
type timerQueue struct {
	work sync.WaitGroup // one while the timer runs, or what it has started

	mu     sync.Mutex // taken after a session's lock
	set    timerHeap
	timer  *time.Timer // nil while it does not run
	at     time.Time   // when it ends
	closed bool
}

// schedule has s.askAlive called at the given time, and at no other that was given before.
func (q *timerQueue) schedule(s *session, at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s.timer.at = at
	if s.timer.place == 0 {
		heap.Push(&q.set, s)
	} else {
		heap.Fix(&q.set, s.timer.place-1)
	}
	q.startLocked()
}

// stop takes back what schedule was told.
func (q *timerQueue) stop(s *session) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s.timer.place > 0 {
		heap.Remove(&q.set, s.timer.place-1)
	}
}

// startLocked sees to it that the timer ends with the first that is scheduled at the latest.
func (q *timerQueue) startLocked() {
	if q.closed || len(q.set) == 0 {
		return
	}
	first := q.set[0].timer.at
	if q.timer != nil {
		if !first.Before(q.at) || !q.stopLocked() {
			return // it rings early enough, or just now
		}
	}
	q.work.Add(1)
	q.at = first
	q.timer = time.AfterFunc(time.Until(first), q.run)
}

// stopLocked stops the timer, unless what it starts has begun.
func (q *timerQueue) stopLocked() bool {
	stopped := q.timer.Stop()
	if stopped {
		q.timer = nil
		q.work.Done()
	}
	return stopped
}

func (q *timerQueue) run() {
	defer q.work.Done()
	for s := q.next(time.Now()); s != nil; s = q.next(time.Now()) {
		s.askAlive()
	}
}

// next returns a session whose time has come. Without one it starts the timer anew.
func (q *timerQueue) next(now time.Time) *session {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed && len(q.set) > 0 && !q.set[0].timer.at.After(now) {
		return heap.Pop(&q.set).(*session) //nolint:forcetypeassert // nothing else is put there
	}
	q.timer = nil
	q.startLocked()
	return nil
}

// close returns when no session is being called, and none will be. It may be called
// more than once.
func (q *timerQueue) close() {
	q.mu.Lock()
	q.closed = true
	if q.timer != nil {
		q.stopLocked()
	}
	q.mu.Unlock()
	q.work.Wait()
}

// timerEntry is a session's place in the timer queue, which guards it.
type timerEntry struct {
	at    time.Time
	place int // in the heap, from 1 on; zero for none
}

// timerHeap implements heap.Interface: the session whose time comes first is first.
type timerHeap []*session

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].timer.at.Before(h[j].timer.at) }

func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].timer.place, h[j].timer.place = i+1, j+1
}

// Push implements heap.Interface.
func (h *timerHeap) Push(s any) {
	*h = append(*h, s.(*session)) //nolint:forcetypeassert // see next
	(*h)[len(*h)-1].timer.place = len(*h)
}

// Pop implements heap.Interface.
func (h *timerHeap) Pop() any {
	last := len(*h) - 1
	s := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	s.timer.place = 0
	return s
}
