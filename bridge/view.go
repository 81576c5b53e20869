package bridge

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/entity-sync/entity-sync/internal/conflate"
	"github.com/entity-sync/entity-sync/shared"
)

// scope says whose eyes a view is seen with: one secret's, or those of every
// secret that the application's scope function maps to the same value.
type scope struct {
	shared bool          // value came from the scope function
	value  shared.Secret // the scope function may return the secret itself
}

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

// view is one key as seen with one scope: the unit of fetching, of ordering and
// of fan-out. It has at most one fetch in flight, and one more owed however
// often it is marked meanwhile.
//
// There are as many as there are things that clients watch, and most are idle: what
// only the others need is in their pendingFetch. For the same reason the scope is in two
// fields, which take less room apart.
type view struct {
	id     string
	secret shared.Secret // its scope's value
	entity *entity

	mu       sync.Mutex // guards what says no other lock; see lock
	members  []*subscription
	fetch    uint64        // number of the fetch in flight, or of the last one
	forAll   uint64        // number of the last one whose result goes to every member it is news to; at first that of the view
	revision int64         // of the newest result handed out, if it had one
	pending  *pendingFetch // nil while the view is idle

	others *viewSet // of the key, where it is the first of them; guarded by the shard's lock

	posted atomic.Uint32 // marks that wait for the lock, see post
	shared bool          // whether its scope is

	// Guarded by mu, too.
	state viewState
	owed  cause       // what the next fetch is for
	stale staleReason // why the node cannot vouch for what its members were sent
}

// pendingFetch is what a view needs from when it is marked until what was fetched has been
// handed out. It is guarded by the view's lock, but for its places in lines.
type pendingFetch struct {
	waiting queueEntry                   // to be fetched; guarded by the queue's lock
	failed  conflate.Slot[*view]         // to be tried again; guarded by the retry queue's lock
	late    conflate.Slot[waitingChange] // to be handed out once it has changed; guarded by the lag watch's lock

	changed  bool        // announced as changed, and nothing fetched since was handed out
	again    time.Time   // of the first change that the fetch in flight may be too early for; zero where there is none
	failures int         // fetches failed in a row
	retry    *time.Timer // runs while it is backing off
	lag      *lag        // of the last fetch, if it read something older than was handed out
}

func (v *view) key() shared.EntityKey {
	return shared.EntityKey{Entity: v.entity.name, ID: v.id}
}

func (v *view) scope() scope { return scope{shared: v.shared, value: v.secret} }

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
		if laneOf(c) != repairLane && v.entity.retries.mayProbe() {
			v.tryNowLocked()
		}
	}
}

func (v *view) queueLocked(client uint64) {
	v.state = queued
	v.pendingLocked()
	v.entity.queue.push(v, laneOf(v.owed), client)
}

// payerLocked is the client that a fetch for all members counts for, where
// clients take turns.
func (v *view) payerLocked() uint64 {
	if len(v.members) == 0 {
		return 0
	}
	return v.members[0].client.number
}

// handover is what a member that moves to another view takes along.
type handover struct {
	owed   bool        // the view it left had, or may have had, something for it to come
	forAll uint64      // of the view it left, the greatest number where it left none
	stale  staleReason // of the view it left, as its client's sink still counts it
}

func (v *view) joinLocked(sub *subscription, from handover) {
	// The results that this view has handed out were not for the new member: it
	// is no more up to date than the view it comes from.
	v.forAll = min(v.forAll, from.forAll)
	if from.owed { // so that a fetch will end what makes it stale
		v.setStaleLocked(v.stale | from.stale&^staleBus)
	}
	sub.view, sub.asked = v, false
	sub.place = int32(len(v.members)) //nolint:gosec // a node has fewer clients
	v.members = append(v.members, sub)
	sub.client.addStale(v.stale.count() - from.stale.count())
	v.serveLocked(sub)
}

// askAgain owes a member what it asks for in subscribing again. It returns false where
// sub is not a member any more. The version that it says it was sent is the zero Version if
// it does not say.
func (v *view) askAgain(sub *subscription, o SubscribeOptions) (member bool) {
	v.lock()
	defer v.unlock()
	if sub.place == noPlace {
		return false
	}
	if !o.Snapshot {
		return true
	}
	sub.snapshot = true
	w := wantedBy(o.Version)
	if w == wantConfirmation && (sub.client.sink.Drop(&sub.slot) || sub.sent != o.Version) {
		// What it says it has is not, or will not be, what it was sent last.
		w = wantResult
	}
	sub.wants = max(sub.wants, w)
	v.serveLocked(sub)
	return true
}

// serveLocked sees to it that a fetch comes for what sub wants.
func (v *view) serveLocked(sub *subscription) {
	if sub.wants == wantNothing {
		return
	}
	// A fetch in flight serves a new member too: a change since it began has
	// marked the view. It does not serve one that was already sent something
	// newer by another view, for that would take it backwards.
	if v.state == fetching && v.fetch > sub.fetch {
		return
	}
	v.markLocked(causeJoined, sub.client.number)
}

// has reports whether sub is a member: not where it was refused.
func (v *view) has(sub *subscription) bool {
	v.lock()
	defer v.unlock()
	return sub.place != noPlace
}

// leaveLocked removes a member.
func (v *view) leaveLocked(sub *subscription) handover {
	from := handover{owed: v.state != idle, forAll: v.forAll, stale: v.stale}
	before := v.state
	v.removeLocked(sub)
	if len(v.members) == 0 && v.abandon() {
		v.forgetLocked()
	}
	v.becameLocked(before, eventLeft)
	return from
}

// removeLocked removes a member, whose client still counts it as stale where the view is.
// The last one takes its place.
func (v *view) removeLocked(sub *subscription) {
	last := len(v.members) - 1
	moved := v.members[last]
	v.members[sub.place], moved.place = moved, sub.place
	v.members[last] = nil
	v.members = v.members[:last]
	sub.place = noPlace
}

// abandon gives up what the view is waiting for, and reports whether it was
// waiting. A worker that has taken it already finds nobody to fetch for.
func (v *view) abandon() bool {
	switch v.state {
	case queued:
		return v.entity.queue.remove(v)
	case backingOff:
		v.pending.retry.Stop()
		v.entity.retries.remove(v)
		return true
	default:
		return false
	}
}

// forgetLocked ends what the view waits for, where there is nobody left to fetch for.
func (v *view) forgetLocked() {
	v.state, v.owed = idle, 0
	v.forgetChangesLocked()
	v.setStaleLocked(v.stale & staleBus)
	v.pending = nil
}

// unusedLocked: such views are forgotten. One with a fetch in flight is kept even without
// members, so that leaving and joining again cannot start a second.
func (v *view) unusedLocked() bool {
	return len(v.members) == 0 && v.state == idle
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
	v.entity.queue.remove(v) // where it is again, if it was marked since a worker took it
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
		v.entity.queue.remove(v) // where it is again, if it was marked meanwhile
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
	e.retry = time.AfterFunc(delay, v.tryNow)
	v.entity.retries.add(v)
	return delay
}

// tryNow ends the wait for another attempt.
func (v *view) tryNow() {
	v.lock()
	defer v.unlock()
	if v.state == backingOff {
		v.tryNowLocked()
		v.becameLocked(backingOff, eventRetried)
	}
}

func (v *view) tryNowLocked() {
	v.pending.retry.Stop()
	v.entity.retries.remove(v)
	v.entity.bridge.counts.retried.Add(1)
	v.queueLocked(v.payerLocked())
}
