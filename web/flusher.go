package web

import (
	"runtime"
	"sync"
)

// flusher writes to the clients whose sockets take it at once, which is nearly all
// of them nearly always, so that a change that thousands watch wakes no goroutine for
// each. What a socket does not take is left to a writer of that client's own.
//
// It has a goroutine for each core at most. None of them ever waits for a client.
// They start when there is something to write, and stay: to grow a new one's stack
// would take longer than most writes.
type flusher struct {
	most int // goroutines

	mu          sync.Mutex // taken after a send queue's lock
	first, last *sendQueue // those with something to write, linked by sendQueue.next
	waiting     int
	busy, idle  int // goroutines
	wake        sync.Cond
	ended       sync.Cond // no goroutine is left
	closed      bool
}

func newFlusher() *flusher {
	f := &flusher{most: runtime.GOMAXPROCS(0)}
	f.wake.L, f.ended.L = &f.mu, &f.mu
	return f
}

// flushed is how many send queues a goroutine takes at once. Another one is woken where
// more wait than those that are busy will take next.
const flushed = 32

// add has a send queue written, which must not be waiting already.
func (f *flusher) add(o *sendQueue) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last == nil {
		f.first = o
	} else {
		f.last.next = o
	}
	f.last = o
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

func (f *flusher) run() {
	a := newAttempt()
	for {
		o := f.take()
		if o == nil {
			return
		}
		for o != nil {
			next := o.next
			o.next = nil // from now on it may be added again
			o.flush(a)
			o = next
		}
	}
}

// take waits for some send queues and returns the first, linked to the others, or nil
// once the flusher is closed and nothing is left to write.
func (f *flusher) take() *sendQueue {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.first == nil {
		f.busy--
		if f.closed {
			f.ended.Broadcast()
			return nil
		}
		f.idle++
		f.wake.Wait() // whoever ends it counts the goroutine as busy again
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

// close lets the goroutines end when nothing is left to write. What is added later is
// written all the same, also while close waits: a sync.WaitGroup would not have that.
func (f *flusher) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.busy, f.idle = f.busy+f.idle, 0
	f.wake.Broadcast()
	for f.busy > 0 {
		f.ended.Wait()
	}
}
