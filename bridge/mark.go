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
	// causeRefresh: the period of EntityOptions.Refresh is over. Members are pushed what
	// differs.
	causeRefresh
	// causeJoined: a member is owed a snapshot (its wants flag says which).
	causeJoined
)

// String names why a view is fetched. If a view has several causes, it names the first of: a
// change, a client that waits for a snapshot, a change that may have been missed, a refresh.
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

// event returns the event of marking a view for the cause. If there are several causes, it
// returns the event of the first.
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

// posted is a set of causes that wait to be marked, and of lostBus.
//
// A view's lock is held while a result is handed out to all members. The reader of the bus must
// not wait for that. The reader therefore posts its marks. If the lock is free, the reader
// takes the lock and the marks at once. Otherwise the lock's present or next holder takes the
// marks.
type posted uint32

// lostBus makes a view stale until the bus is back.
const lostBus posted = 1 << 8

// post marks the view, and never waits.
func (v *view) post(p posted) {
	before := posted(v.posted.Or(uint32(p)))
	if before&p&posted(causeNotified) != 0 {
		v.entity.bridge.counts.coalesced.Add(1)
	}
	// A TryLock that fails synchronizes with nothing. The load of posted orders the TryLock
	// after the post, so that the poster or the holder sees what the other did.
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

// unlock takes the marks that were posted while the lock was held. If another goroutine has
// taken the lock meanwhile, that goroutine takes the marks.
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

// pendingFetch is what a view needs from when it is marked until the result has been handed
// out. The view's lock guards it.
type pendingFetch struct {
	entry schedule.Entry[*view] // the view's places in the schedule, which guards them

	changed  bool      // announced as changed, and nothing fetched since was handed out
	again    time.Time // of the first change that the fetch in flight may be too early for; zero where there is none
	failures int       // fetches failed in a row
	lag      *lag      // of the last fetch, if it read something older than was handed out
}

// pendingLocked returns the view's pendingFetch, and makes one if the view has none.
func (v *view) pendingLocked() *pendingFetch {
	if v.pending == nil {
		v.pending = new(pendingFetch)
	}
	return v.pending
}

// markLocked owes the view a fetch, on behalf of one client, by the client's number. The first
// mark of an idle view queues the view at once. Further marks before that fetch begins cost
// nothing more.
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

// laneOf returns the lane in which a view waits for a fetch of the given cause.
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

// payerLocked returns the client that a fetch for all members counts for, where clients take
// turns.
func (v *view) payerLocked() uint64 {
	if len(v.members) == 0 {
		return 0
	}
	return v.members[0].client.number
}

// abandon ends the view's wait, and reports whether the view was waiting. A worker that has
// taken the view already finds no member to fetch for.
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

// beginWith takes the view from queued to fetching, with the first member's secret. If that
// secret has changed meanwhile, beginWith does nothing.
//
// beginWith returns false if the view has no member, or if a worker has begun already. The
// second can happen: a view that is marked after a worker has taken it from the queue, and
// before this call, is in the queue again, and a second worker may take it.
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

// fail owes the view the failed fetch again, after a wait, if the view still has members. It
// returns the wait.
func (v *view) fail(job fetchJob) time.Duration {
	v.lock()
	defer v.unlock()
	return v.failLocked(job.cause)
}

// failToBegin is fail for a view that a worker has taken and has not begun to fetch.
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

// tryNow ends the wait for another attempt. The schedule calls tryNow when the wait is over.
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
