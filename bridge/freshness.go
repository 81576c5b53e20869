package bridge

import (
	"sync"
	"sync/atomic"
)

// FreshnessSink is a Sink that is told whether the node can vouch for what it has
// sent the client: not while it may have missed a notification of something that
// the client watches (the bus is lost, or came back and the rows have not been
// looked at again), nor while fetching it fails, nor while a change that it has heard
// of waits to be fetched for longer than a moment. A client begins fresh.
//
// Fresh is called as the methods of Sink are. When it is called with true, every
// update that it waited for has been pushed.
type FreshnessSink interface {
	Sink
	Fresh(fresh bool)
}

// staleReason is a set of reasons why a node cannot vouch for a view, which is stale then.
type staleReason uint8

const (
	staleBus     staleReason = 1 << iota // the bus is lost
	staleMissed                          // notifications may have been missed, and it was not fetched since
	staleFailing                         // the last fetch failed
	staleLate                            // it has changed, and was not fetched for a while
)

// freshness counts how many of a client's subscriptions are stale, and tells
// its sink when that begins and ends.
type freshness struct {
	mu      sync.Mutex // taken after a view's lock
	reasons int
	told    bool          // that it is not fresh
	held    bool          // nothing is told until release
	sink    FreshnessSink // nil where nobody wants to know
	stale   *atomic.Int64 // clients that are not fresh
}

func (f *freshness) add(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reasons += n
	if !f.held {
		f.tellLocked()
	}
}

func (f *freshness) tellLocked() {
	if f.told == (f.reasons > 0) {
		return
	}
	f.told = f.reasons > 0
	if f.told {
		f.stale.Add(1)
	} else {
		f.stale.Add(-1)
	}
	if f.sink != nil {
		f.sink.Fresh(!f.told)
	}
}

// hold keeps the sink from being told until release, so that what changes on the
// way of a subscription from one view to another is not told.
func (f *freshness) hold() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = true
}

func (f *freshness) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = false
	f.tellLocked()
}

// mute tells the sink nothing any more.
func (f *freshness) mute() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sink = nil
}

// setStaleLocked changes why the view is stale, and tells its members' clients
// if that makes a difference.
func (v *view) setStaleLocked(d staleReason) {
	was := v.stale
	v.stale = d
	switch {
	case was == 0 && d != 0:
		for _, sub := range v.members {
			sub.client.fresh.add(1)
		}
	case was != 0 && d == 0:
		for _, sub := range v.members {
			sub.client.fresh.add(-1)
		}
	}
}

// suspect makes the view stale.
func (v *view) suspect(d staleReason) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if d == staleBus && v.entity.feed.Live() {
		return // it is back already
	}
	v.setStaleLocked(v.stale | d)
}

// staleAll makes every view stale.
func (x *index) staleAll(d staleReason) {
	for i := range x.shards {
		x.shards[i].each(func(v *view) { v.suspect(d) })
	}
}
