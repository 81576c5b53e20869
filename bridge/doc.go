// Package bridge is the engine. It knows which clients watch which keys, hears from the bus
// which keys changed, has the rows of changed keys fetched, and hands each client what that
// client may see.
//
// # Terms
//
// A view is one key as seen with one scope. The scope is the client's secret, unless the
// entity type was registered with a scope function. The view is the unit of fetching, of
// ordering and of fan-out. The clients that watch a view are its members.
//
// # What holds
//
// Delivery: when Notify(key) has returned nil, every client that stays subscribed to key ends
// up with rows from a fetch that began after that call. States in between may be skipped; the
// last one is not. A fetch that fails is tried again while the view has members. When the bus
// was out of reach, or a notification is found to be missing by its number, everything watched
// of the entity type is looked at again.
//
// Order: a view has one fetch in flight at most. Its results go out in the order in which the
// fetches began. Different keys have no order among them.
//
// Authorization: a result goes only to the clients that are members of its view at the moment
// when the result is there. A client that left, that changed its secret, or whose secret's
// scope has changed is no member any more. If the scope of the secret that a result was fetched
// with has changed meanwhile, no client gets the result.
//
// Slow clients: what one client can make a node hold is one update for each key that the client
// watches, because a newer update replaces an older one of the same key (see Sink). No client
// waits for another.
//
// Work: the first notification of a key is acted on at once. Any number of further ones, while
// a fetch is queued or in flight, cost one more fetch. A notification of a key that no client
// here watches costs one map look-up.
//
// # Locks
//
// Each lock is taken before those behind it. What a lock guards is said where it is declared:
//
//	Client.mu, shard.moves, view.mu, shard.mu, Bridge.mu, Schedule.mu, schedule.Limit.mu, a Sink's, an Update's encodings'
//
// No lock is held across a call of the application, of the bus, or of a socket. A view's lock is
// held while a result is handed out to all members; nothing that marks the view waits for that
// (see mark.go). The locks of two views are held at once only while a member moves between them.
//
// # States
//
// A view is in one of six states. The table is all that may happen to a view: in a state, because
// of an event, it comes to the next state. TestTheTableOfStates holds the table against the model.
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
package bridge
