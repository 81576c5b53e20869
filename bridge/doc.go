// Package bridge is the engine: it knows which clients watch which keys, hears
// from the bus which keys changed, has their rows fetched, and hands each client
// what it may see.
//
// # Terms
//
// A view is one key as seen with one scope; the scope is the client's secret
// unless the entity type was registered with a scope function. The view is the
// unit of fetching, of ordering and of fan-out.
//
// # What holds
//
// Delivery: when Notify(key) has returned nil, every client that stays
// subscribed to key ends up with rows from a fetch begun after that call.
// States in between may be skipped; the last one is not. A fetch that fails is
// tried again while anybody watches; whenever the bus was out of reach, or a
// notification is found to be missing by its number, everything watched of the
// entity type is looked at again.
//
// Order: a view has one fetch in flight at most, and its results go out in the
// order in which the fetches began. Different keys have no order among them.
//
// Authorization: a result goes only to the members of the view it was fetched
// for, at the moment it is there. A client that changed its secret or left, or whose
// secret's scope has changed, is no member any more. A result fetched with a secret
// whose scope has changed meanwhile goes to nobody.
//
// Slow clients: what one client can make a node hold is one update for each key
// it watches, because a newer update replaces an older one of the same key
// (see Sink). No client waits for another.
//
// Work: the first notification of a key is acted on at once. Any number of
// further ones, while a fetch is queued or in flight, cost one more fetch. A
// notification of a key that nobody here watches costs one map look-up.
//
// # Locks
//
// Each is taken before those behind it, and what it guards is said where it is declared:
//
//	Client.mu, shard.moves, view.mu, shard.mu, fetchQueue.mu, retryQueue.mu, lagWatch.mu, Bridge.mu, fetchLimit.mu, a Sink's, Update.mu
//
// None is held across a call of the application, of the bus, or of a socket. A view's lock is
// held while a result is handed out to all members; nobody who marks the view waits for it (see
// post.go). Of two views the locks are held only while a member moves between them.
//
// # States
//
// What each event does to a view, what a member is handed, and when a view is stale: the tables
// are in states.go, and a test holds the first against the model.
package bridge
