package bridge

import (
	"time"

	"github.com/entity-sync/entity-sync/bridge/internal/schedule"
	"github.com/entity-sync/entity-sync/shared"
)

// cause is a set of reasons why a view must be fetched.
type cause uint8

const (
	// causeNotified: the key was announced as changed. Every member is pushed to.
	causeNotified cause = 1 << iota
	// causeMissed: announcements may have been missed. Members are pushed what
	// differs from what they last got, and until then the view is stale.
	causeMissed
	// causeRefresh: it is time to look again. Members are pushed what differs.
	causeRefresh
	// causeJoined: a member is owed a snapshot (its wants flag says which).
	causeJoined
)

// String names why a view is fetched: the first that holds of a change, a client that
// waits for a snapshot, a change that may have been missed, and a refresh.
func (c cause) String() string {
	switch {
	case c&causeNotified != 0:
		return "changed"
	case c&causeJoined != 0:
		return "subscribed"
	case c&causeMissed != 0:
		return "looked_again"
	default:
		return "refresh"
	}
}

// event is that of being marked for the cause: the first that holds.
func (c cause) event() event {
	switch {
	case c&causeNotified != 0:
		return eventChanged
	case c&causeJoined != 0:
		return eventSubscribed
	case c&causeMissed != 0:
		return eventLookedAgain
	default:
		return eventRefresh
	}
}

// posted is causes that a view is to be marked with, and lostBus. A view's lock is held while a
// result is handed out to all members. So that the reader of the bus never waits for that, it
// posts its marks: if the lock is free the marks are taken at once, otherwise by the lock's
// present or next holder.
type posted uint32

// lostBus makes a view stale until the bus is back.
const lostBus posted = 1 << 8

// post marks the view, and never waits.
func (v *view) post(p posted) {
	before := posted(v.posted.Or(uint32(p)))
	if before&p&posted(causeNotified) != 0 {
		v.entity.bridge.counts.coalesced.Add(1)
	}
	// A TryLock that fails synchronizes with nothing: only the load, of what was posted,
	// orders it after the post, so that one of the two sees what the other did.
	if v.posted.Load() != 0 && v.mu.TryLock() {
		v.takePostedLocked()
		v.unlock()
	}
}

// lock waits for the view, with all that was posted.
func (v *view) lock() {
	v.mu.Lock()
	v.takePostedLocked()
}

// unlock takes what was posted while the lock was held. Where it is taken again meanwhile,
// that is for who has it.
func (v *view) unlock() {
	for {
		v.mu.Unlock()
		if v.posted.Load() == 0 || !v.mu.TryLock() {
			return
		}
		v.takePostedLocked()
	}
}

func (v *view) takePostedLocked() {
	if v.posted.Load() == 0 {
		return
	}
	p := posted(v.posted.Swap(0))
	if v.state == removed {
		return
	}
	c, reasons, live := cause(p&^lostBus), v.stale, v.entity.feed.Live()
	if p&lostBus != 0 && !live { // else it is back already
		reasons |= staleBus
	}
	if c&causeMissed != 0 {
		if live {
			reasons &^= staleBus
		}
		if v.forAll > v.entity.index.missed.Load() {
			c &^= causeMissed // it was fetched since
		} else {
			reasons |= staleMissed
		}
	}
	v.setStaleLocked(reasons)
	if c != 0 {
		v.markLocked(c, v.payerLocked())
	}
}

// pendingFetch is what a view needs from when it is marked until what was fetched has been
// handed out. It is guarded by the view's lock.
type pendingFetch struct {
	entry schedule.Entry[*view] // the view's places in the schedule, which guards them

	changed  bool      // announced as changed, and nothing fetched since was handed out
	again    time.Time // of the first change that the fetch in flight may be too early for; zero where there is none
	failures int       // fetches failed in a row
	lag      *lag      // of the last fetch, if it read something older than was handed out
}

// pendingLocked returns the view's pendingFetch, which begins if it has none.
func (v *view) pendingLocked() *pendingFetch {
	if v.pending == nil {
		v.pending = new(pendingFetch)
	}
	return v.pending
}

// markLocked owes the view a fetch, on behalf of one client, by its number. The first mark
// of an idle view queues it at once; any further ones before that fetch begins cost nothing
// more.
func (v *view) markLocked(c cause, client uint64) {
	if v.owed&c&causeNotified != 0 {
		v.entity.bridge.counts.coalesced.Add(1)
	}
	defer v.becameLocked(v.state, c.event())
	v.owed |= c
	if c&causeNotified != 0 {
		v.noteChangeLocked()
	}
	switch v.state {
	case idle, queued:
		v.queueLocked(client)
	case backingOff:
		if laneOf(c) != schedule.Repairs && v.entity.schedule.MayProbe() {
			v.tryNowLocked()
		}
	}
}

func (v *view) queueLocked(client uint64) {
	v.state = queued
	v.entity.schedule.Push(&v.pendingLocked().entry, v, laneOf(v.owed), client)
}

// laneOf says where a view waits that is owed a fetch for the given cause.
func laneOf(c cause) schedule.Lane {
	switch {
	case c&causeNotified != 0:
		return schedule.Changes
	case c&causeJoined != 0:
		return schedule.Snapshots
	default:
		return schedule.Repairs
	}
}

// payerLocked is the client that a fetch for all members counts for, where
// clients take turns.
func (v *view) payerLocked() uint64 {
	if len(v.members) == 0 {
		return 0
	}
	return v.members[0].client.number
}

// abandon gives up what the view is waiting for, and reports whether it was
// waiting. A worker that has taken it already finds nobody to fetch for.
func (v *view) abandon() bool {
	switch v.state {
	case queued:
		return v.entity.schedule.Remove(&v.pending.entry)
	case backingOff:
		v.entity.schedule.Remove(&v.pending.entry)
		return true
	default:
		return false
	}
}

// beginWith takes the view from queued to fetching, with the first member's secret. It
// returns false where there is nobody to fetch for, or where a worker has begun already:
// a view that is marked between being taken from the queue and this is in the queue
// again, and may have been taken from it twice. Where the secret has changed it does
// nothing.
func (v *view) beginWith(secret shared.Secret) (job fetchJob, ok, changed bool) {
	v.lock()
	defer v.unlock()
	switch {
	case v.state != queued:
		return fetchJob{}, false, false
	case len(v.members) > 0 && v.members[0].secret != secret:
		return fetchJob{}, false, true
	}
	v.entity.schedule.Remove(&v.pending.entry) // where it is again, if it was marked since a worker took it
	defer v.becameLocked(v.state, eventBegun)
	if len(v.members) == 0 {
		v.forgetLocked()
		return fetchJob{}, false, false
	}
	v.state = fetching
	v.entity.running.Add(1) // until its outcome is settled
	v.entity.bridge.counts.fetches.Add(1)
	v.fetch = v.entity.bridge.counts.sequence.Add(1)
	if v.owed&^causeJoined != 0 {
		v.forAll = v.fetch
	}
	job = fetchJob{view: v, cause: v.owed, secret: secret}
	v.owed = 0
	v.pending.again = time.Time{} // this fetch is late enough
	return job, true, false
}

// fail owes the view the fetch that failed, to be tried again after a while if
// anybody still watches. It returns that while.
func (v *view) fail(job fetchJob) time.Duration {
	v.lock()
	defer v.unlock()
	return v.failLocked(job.cause)
}

// failToBegin is fail for a view that a worker has taken and not begun with.
func (v *view) failToBegin() {
	v.lock()
	defer v.unlock()
	if v.state == queued {
		v.entity.schedule.Remove(&v.pending.entry) // where it is again, if it was marked meanwhile
		v.failLocked(v.owed)
	}
}

func (v *view) failLocked(owed cause) time.Duration {
	defer v.becameLocked(v.state, eventFailed)
	if len(v.members) == 0 {
		v.forgetLocked()
		return 0
	}
	if v.entity.bridge.ctx.Err() != nil {
		v.state, v.owed = idle, 0
		return 0
	}
	v.setStaleLocked(v.stale | staleFailing)
	v.owed |= owed
	e := v.pendingLocked()
	e.failures++
	v.state = backingOff
	delay := v.entity.options.Retry.delay(e.failures)
	v.entity.schedule.RetryAfter(&e.entry, v, delay)
	return delay
}

// tryNow ends the wait for another attempt. The schedule calls it when the time has come.
func (v *view) tryNow() {
	v.lock()
	defer v.unlock()
	if v.state == backingOff {
		v.tryNowLocked()
		v.becameLocked(backingOff, eventRetried)
	}
}

func (v *view) tryNowLocked() {
	v.entity.bridge.counts.retried.Add(1)
	v.queueLocked(v.payerLocked())
}
