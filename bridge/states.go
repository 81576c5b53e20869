package bridge

// A view is in one of six states. This table is all that may happen to it: in a state, because
// of an event, it comes to the next state. TestTheTableOfStates holds it against the model.
//
//	state        event         next         what else
//	idle         changed       queued       in the lane of changes
//	idle         subscribed    queued       in the lane of snapshots
//	idle         looked_again  queued       in the lane of repairs; stale (missed) until it is handed out
//	idle         refresh       queued       in the lane of repairs
//	idle         left          idle
//	idle         unused        removed      nobody is a member, and nothing is under way
//	queued       changed       queued       in the lane of changes from now on
//	queued       subscribed    queued       in the lane of snapshots, if it waits for a repair
//	queued       looked_again  queued       stale (missed)
//	queued       refresh       queued
//	queued       left          idle         out of the queue: it was the last member
//	queued       left          queued       it was not, or a worker has taken the view already
//	queued       begun         fetching     with the secret of a member, for all that is owed
//	queued       begun         idle         there is no member any more
//	queued       failed        backing_off  the scope function ended the worker's goroutine
//	fetching     changed       fetching     another fetch is owed
//	fetching     subscribed    fetching     this fetch serves the new member, unless it has something newer
//	fetching     looked_again  fetching     another fetch is owed, unless this one began late enough; stale (missed)
//	fetching     refresh       fetching     another fetch is owed
//	fetching     left          fetching     the view is kept, so that no second fetch begins
//	fetching     answered      delivering   the members' scopes are asked, where there is a scope function
//	fetching     handed_out    idle         stale no more, but for the bus
//	fetching     handed_out    queued       another fetch is owed
//	fetching     failed        backing_off  stale (failing)
//	fetching     failed        idle         there is no member any more
//	delivering   changed       delivering   another fetch is owed, as in all that follows
//	delivering   subscribed    delivering   the new member was not asked
//	delivering   looked_again  delivering   stale (missed)
//	delivering   refresh       delivering
//	delivering   left          delivering
//	delivering   handed_out    idle
//	delivering   handed_out    queued
//	delivering   rescoped      queued       the result is of another scope: it goes to nobody
//	delivering   failed        backing_off  something newer was handed out, or it was rescoped twice
//	delivering   failed        idle         there is no member any more
//	backing_off  changed       queued       ten times a second for each entity type
//	backing_off  changed       backing_off  otherwise
//	backing_off  subscribed    queued       as for a change
//	backing_off  subscribed    backing_off
//	backing_off  looked_again  backing_off  stale (missed)
//	backing_off  refresh       backing_off
//	backing_off  retried       queued       its time has come, or an outage is over
//	backing_off  left          idle         it was the last member
//	backing_off  left          backing_off  it was not
//
// What a member is handed of a result depends on what the fetch was for, and on what it wants:
//
//	the key was announced           the result, or with OnlyDifferences what differs
//	something may have been missed  what differs
//	a refresh                       what differs
//	wantNothing                     what differs, of a fetch for another member, once it was sent anything
//	wantDifference                  what differs
//	wantConfirmation                the result, or word that it does not differ
//	wantResult                      the result
//	wantFirst                       the result, also one that is older than what others have
//
// A view is stale for a reason:
//
//	bus      from when the bus is lost   until it is back, and then for missed
//	missed   from when a gap is noticed  until a fetch that began later was handed out
//	failing  from a fetch that failed    until one was handed out
//	late     from 2 s after a change     until a fetch that began later was handed out
type viewState uint8

const (
	idle       viewState = iota
	queued               // waiting for a worker
	fetching             // a worker is calling the fetch handler
	delivering           // the members' scopes are asked; what arrives now needs another fetch
	backingOff           // the last fetch failed; the retry timer is running
	removed              // from the index
)

// event is what may move a view to another state. The causes of fetches are the first.
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

// observed is told of each transition in tests.
var observed func(from viewState, e event, to viewState)

// becameLocked notes that the view was in another state, or in the same, before an event.
func (v *view) becameLocked(from viewState, e event) {
	if observed != nil {
		observed(from, e, v.state)
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
