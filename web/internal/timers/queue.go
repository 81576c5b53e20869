// Package timers calls many entries at times of their own with one timer of the runtime. A
// timer for each client would be a twentieth of the cost of an idle client.
package timers

import (
	"container/heap"
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/internal/instant"
)

// Queue calls entries at their times. The zero Queue is ready to use.
type Queue struct {
	work sync.WaitGroup // one while the timer runs, or the function that it has started

	mu     sync.Mutex
	set    entries
	timer  *time.Timer     // nil while it does not run
	at     instant.Instant // when it ends
	closed bool
}

// Called is what a Queue calls.
type Called interface {
	// Due is called at the scheduled time, or as soon as the earlier calls have returned. It
	// may schedule the entry again.
	Due()
}

// Entry is an entry's place in a Queue, which guards it.
type Entry struct {
	called Called
	at     instant.Instant
	place  int // in the heap, from 1 on; zero for none
}

// Schedule makes the Queue call c at the given time. It replaces an earlier schedule of the
// entry.
func (q *Queue) Schedule(e *Entry, at instant.Instant, c Called) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e.at, e.called = at, c
	if e.place == 0 {
		heap.Push(&q.set, e)
	} else {
		heap.Fix(&q.set, e.place-1)
	}
	q.startLocked()
}

// Stop undoes Schedule.
func (q *Queue) Stop(e *Entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e.place > 0 {
		heap.Remove(&q.set, e.place-1)
	}
}

// startLocked makes sure that the timer ends no later than the time of the first entry.
func (q *Queue) startLocked() {
	if q.closed || len(q.set) == 0 {
		return
	}
	first := q.set[0].at
	if q.timer != nil {
		if !first.Before(q.at) || !q.stopLocked() {
			return // the timer ends early enough, or has just ended
		}
	}
	q.work.Add(1)
	q.at = first
	q.timer = time.AfterFunc(first.Sub(instant.Now()), q.run)
}

// stopLocked stops the timer, unless its function has been started.
func (q *Queue) stopLocked() bool {
	stopped := q.timer.Stop()
	if stopped {
		q.timer = nil
		q.work.Done()
	}
	return stopped
}

func (q *Queue) run() {
	defer q.work.Done()
	for c := q.next(instant.Now()); c != nil; c = q.next(instant.Now()) {
		c.Due()
	}
}

// next returns an entry whose time has come. If there is none, it starts the timer again.
func (q *Queue) next(now instant.Instant) Called {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed && len(q.set) > 0 && !q.set[0].at.After(now) {
		return heap.Pop(&q.set).(*Entry).called //nolint:forcetypeassert // nothing else is put there
	}
	q.timer = nil
	q.startLocked()
	return nil
}

// Close returns when no entry is being called, and none will be. It may be called more than
// once.
func (q *Queue) Close() {
	q.mu.Lock()
	q.closed = true
	if q.timer != nil {
		q.stopLocked()
	}
	q.mu.Unlock()
	q.work.Wait()
}

// entries implements heap.Interface: the entry whose time comes first is first.
type entries []*Entry

func (h entries) Len() int           { return len(h) }
func (h entries) Less(i, j int) bool { return h[i].at.Before(h[j].at) }

func (h entries) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i+1, j+1
}

// Push implements heap.Interface.
func (h *entries) Push(e any) {
	*h = append(*h, e.(*Entry)) //nolint:forcetypeassert // see next
	(*h)[len(*h)-1].place = len(*h)
}

// Pop implements heap.Interface.
func (h *entries) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	e.place = 0
	return e
}

// Slack is by how much at most a node that does not sleep notices late that a limit is over.
func Slack(limit time.Duration) time.Duration { return limit / 4 }
