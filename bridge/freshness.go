package bridge

import (
	"time"

	"github.com/entity-sync/entity-sync/bridge/internal/schedule"
)

// staleReason is a set of reasons why a node cannot vouch for a view, which is stale then.
type staleReason uint8

const (
	staleBus     staleReason = 1 << iota // the bus is lost
	staleMissed                          // notifications may have been missed, and it was not fetched since
	staleFailing                         // the last fetch failed
	staleLate                            // it has changed, and was not fetched for a while
)

// addStale counts n more subscriptions of the client that are stale, and tells its sink.
func (c *Client) addStale(n int) {
	if n == 0 {
		return
	}
	c.countStale(n)
	if c.freshness != nil {
		c.freshness.AddStale(n)
	}
}

// countStale is addStale without the sink.
func (c *Client) countStale(n int) {
	now := c.stale.Add(int64(n))
	switch was := now - int64(n); {
	case was == 0 && now != 0:
		c.bridge.counts.stale.Add(1)
	case was != 0 && now == 0:
		c.bridge.counts.stale.Add(-1)
	}
}

// count returns how many stale subscriptions each of the reasons adds for the members of a
// view.
func (d staleReason) count() int { return int(min(d, 1)) }

// setStaleLocked changes why the view is stale, and tells its members' clients
// if that makes a difference.
func (v *view) setStaleLocked(d staleReason) {
	n := d.count() - v.stale.count()
	v.stale = d
	if n == 0 {
		return
	}
	for _, sub := range v.members {
		sub.client.addStale(n)
	}
}

// suspectLate makes the view stale, unless the change that the view waited for was handed out
// meanwhile. The schedule calls suspectLate schedule.LateAfter after the change.
func (v *view) suspectLate() {
	v.lock()
	defer v.unlock()
	if v.pending != nil && v.pending.changed {
		v.setStaleLocked(v.stale | staleLate)
	}
}

// noteChangeLocked notes that the view has changed, and waits until the change is handed out. A
// fetch in flight may be older than the change.
func (v *view) noteChangeLocked() {
	e := v.pendingLocked()
	tooEarly := v.state == fetching || v.state == delivering
	if e.changed && (!tooEarly || !e.again.IsZero()) {
		return // an earlier change waits for the same fetch
	}
	now := time.Now()
	if tooEarly {
		e.again = now
	}
	if !e.changed {
		e.changed = true
		v.entity.schedule.Watch(&e.entry, v, now)
	}
}

// noteHandedOutLocked notes that a result has been handed out. The changes that were known when
// the fetch began wait no longer. noteHandedOutLocked reports whether a later change waits for
// too long already: between the two, a client must not be told that it is up to date.
func (v *view) noteHandedOutLocked() (late bool) {
	e := v.pending
	if e == nil || !e.changed {
		return false
	}
	since := e.again
	e.changed, e.again = !since.IsZero(), time.Time{}
	v.entity.schedule.Unwatch(&e.entry)
	if !e.changed {
		return false
	}
	if time.Since(since) >= schedule.LateAfter {
		return true
	}
	v.entity.schedule.Watch(&e.entry, v, since)
	return false
}

// forgetChangesLocked notes that the view has no member to hand a change to.
func (v *view) forgetChangesLocked() {
	if e := v.pending; e != nil && e.changed {
		e.changed = false
		v.entity.schedule.Unwatch(&e.entry)
	}
}
