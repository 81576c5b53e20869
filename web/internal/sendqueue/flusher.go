package sendqueue

import (
	"runtime"
	"sync"

	"github.com/entity-sync/entity-sync/web/internal/socket"
)

// flusher writes to the clients whose sockets take everything at once, which nearly all do
// nearly always. So a change that thousands watch wakes no goroutine for each of them. If a
// socket does not take everything, a writer of that client's own writes the rest.
//
// It has a goroutine for each core at most, and none of them ever waits for a client. They
// start when there is something to write, and stay, because growing the stack of a new one
// would take longer than most writes.
type flusher[U Update] struct {
	most int // bounds busy + idle

	mu          sync.Mutex // taken after a send queue's lock
	first, last *Queue[U]  // the queues with something to write, linked by Queue.next
	waiting     int
	busy, idle  int // goroutines
	wake        sync.Cond
	ended       sync.Cond // no goroutine is left
	closed      bool
}

func newFlusher[U Update]() *flusher[U] {
	f := &flusher[U]{most: runtime.GOMAXPROCS(0)}
	f.wake.L, f.ended.L = &f.mu, &f.mu
	return f
}

// flushed is how many send queues a goroutine takes at once. Another goroutine is woken if
// more queues wait than the busy ones will take next.
const flushed = 32

// add lets a send queue be written. The queue must not have been added already.
func (f *flusher[U]) add(q *Queue[U]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last == nil {
		f.first = q
	} else {
		f.last.next = q
	}
	f.last = q
	f.waiting++
	if f.busy == f.most || f.waiting <= f.busy*flushed {
		return
	}
	f.busy++
	if f.idle > 0 {
		f.idle--
		f.wake.Signal()
	} else {
		go f.run()
	}
}

func (f *flusher[U]) run() {
	room := socket.NewScratch()
	for {
		q := f.take()
		if q == nil {
			return
		}
		for q != nil {
			next := q.next
			q.next = nil // from now on q may be added again
			q.flush(room)
			q = next
		}
	}
}

// take waits for some send queues and returns the first, linked to the others, or nil
// once the flusher is closed and nothing is left to write.
func (f *flusher[U]) take() *Queue[U] {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.first == nil {
		f.busy--
		if f.closed {
			f.ended.Broadcast()
			return nil
		}
		f.idle++
		f.wake.Wait() // add, or close, counts the goroutine as busy again
	}
	first, last, n := f.first, f.first, 1
	for ; n < flushed && last.next != nil; n++ {
		last = last.next
	}
	f.first, last.next = last.next, nil
	if f.first == nil {
		f.last = nil
	}
	f.waiting -= n
	return first
}

// close lets the goroutines end when nothing is left to write. A queue that is added later is
// written all the same, even while close waits, which a sync.WaitGroup would not allow.
func (f *flusher[U]) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.busy, f.idle = f.busy+f.idle, 0
	f.wake.Broadcast()
	for f.busy > 0 {
		f.ended.Wait()
	}
}
