package bridge

import (
	"sync"
	"sync/atomic"

	"github.com/entity-sync/entity-sync/shared"
)

// scope says whose rows a view has: the rows of one secret, or the rows of every secret that
// the application's scope function maps to the same value.
type scope struct {
	shared bool          // value came from the scope function
	value  shared.Secret // the scope function may return the secret itself
}

// view is one key as seen with one scope: the unit of fetching, of ordering and of fan-out. A
// view has at most one fetch in flight. However often the view is marked meanwhile, it is owed
// one more fetch at most.
//
// A node has as many views as things that clients watch, and most views are idle. What only the
// other views need is therefore in their pendingFetch. For the same reason the scope is in two
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

// viewState is one of the six states of the table in the package's documentation.
type viewState uint8

const (
	idle       viewState = iota
	queued               // waiting for a worker
	fetching             // a worker is calling the fetch handler
	delivering           // the members' scopes are asked; what arrives now needs another fetch
	backingOff           // the last fetch failed; the retry timer is running
	removed              // from the index
)

// event is what may move a view to another state. The first events are the causes of fetches.
type event uint8

const (
	eventChanged event = iota
	eventSubscribed
	eventLookedAgain
	eventRefresh
	eventLeft
	eventUnused
	eventBegun
	eventAnswered
	eventHandedOut
	eventRescoped
	eventFailed
	eventRetried
)

// observed is called with each transition in tests.
var observed func(from viewState, e event, to viewState)

// becameLocked tells a test that an event has taken the view from a state to its present one,
// which may be the same.
func (v *view) becameLocked(from viewState, e event) {
	if observed != nil {
		observed(from, e, v.state)
	}
}

func (v *view) key() shared.EntityKey {
	return shared.EntityKey{Entity: v.entity.name, ID: v.id}
}

func (v *view) scope() scope { return scope{shared: v.shared, value: v.secret} }

// handover is what a member that moves to another view takes along.
type handover struct {
	owed   bool        // the view it left had, or may have had, something for it to come
	forAll uint64      // of the view it left, the greatest number where it left none
	stale  staleReason // of the view it left, as its client's sink still counts it
}

func (v *view) joinLocked(sub *subscription, from handover) {
	// The results that this view has handed out were not for the new member. The member is no
	// more up to date than the view that it comes from.
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

// askAgain owes a member what the member asks for in subscribing again. It returns false if sub
// is not a member any more. The zero Version means that the member does not say which version
// it was sent.
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
		// What the member says it has is not, or will not be, what it was sent last.
		w = wantResult
	}
	sub.wants = max(sub.wants, w)
	v.serveLocked(sub)
	return true
}

// serveLocked makes sure that the view is fetched for what sub wants.
func (v *view) serveLocked(sub *subscription) {
	if sub.wants == wantNothing {
		return
	}
	// A fetch in flight serves a new member too, because a change since it began has marked the
	// view. The fetch does not serve a member that another view has sent something newer: the
	// fetch would take that member backwards.
	if v.state == fetching && v.fetch > sub.fetch {
		return
	}
	v.markLocked(causeJoined, sub.client.number)
}

// has reports whether sub is a member. A refused subscription is not.
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

// removeLocked removes a member, and puts the last member in its place. If the view is stale,
// the member's client still counts the subscription as stale.
func (v *view) removeLocked(sub *subscription) {
	last := len(v.members) - 1
	moved := v.members[last]
	v.members[sub.place], moved.place = moved, sub.place
	v.members[last] = nil
	v.members = v.members[:last]
	sub.place = noPlace
}

// forgetLocked ends what the view waits for if the view has no member.
func (v *view) forgetLocked() {
	v.state, v.owed = idle, 0
	v.forgetChangesLocked()
	v.setStaleLocked(v.stale & staleBus)
	v.pending = nil
}

// unusedLocked reports whether the view may be forgotten. A view with a fetch in flight is kept
// even without members, so that leaving and joining again cannot start a second fetch.
func (v *view) unusedLocked() bool {
	return len(v.members) == 0 && v.state == idle
}
