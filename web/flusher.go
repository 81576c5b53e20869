package web

import (
	"runtime"
	"sync"
)

// flusher writes to the clients whose sockets take it at once, which is nearly all
// of them nearly always, so that a change that thousands watch wakes no goroutine for
// each. What a socket does not take is left to a writer of that client's own.
//
// Its goroutines start when there is something to write, and end when there is not.
// None of them ever waits for a client.
type flusher struct {
	work *sync.WaitGroup // which its goroutines, and the writers, belong to
	most int             // goroutines at once

	mu          sync.Mutex // taken after an outbox's lock
	first, last *outbox    // those with something to write, linked by outbox.next
	waiting     int
	running     int
}

func newFlusher(work *sync.WaitGroup) *flusher {
	return &flusher{work: work, most: runtime.GOMAXPROCS(0)}
}

// flushed is how many outboxes a goroutine takes at once. Another one starts where
// more wait than those that are running will take next.
const flushed = 32

// add has an outbox written, which must not be waiting already.
func (f *flusher) add(o *outbox) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last == nil {
		f.first = o
	} else {
		f.last.next = o
	}
	f.last = o
	f.waiting++
	if f.running < f.most && f.waiting > f.running*flushed {
		f.running++
		f.work.Go(f.run)
	}
}

func (f *flusher) run() {
	a := attempts.Get().(*attempt)
	defer attempts.Put(a)
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

// take returns the first of some outboxes, linked to the others. With none the
// goroutine that asked counts as ended.
func (f *flusher) take() *outbox {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.first == nil {
		f.running--
		return nil
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
