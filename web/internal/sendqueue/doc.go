// Package sendqueue holds the frames, updates and events that wait to be written to each
// client, in three lanes: the newest update of each key, events, and frames that are sent in
// order.
//
// Both are bounded. So a slow client costs memory in proportion to its subscriptions, and no
// other client waits for it. An empty Queue has no goroutine.
//
// A Queue does not know what updates mean or how frames are carried: see Encoder and
// Transport. The locks are taken in this order: a Queue's, then the Group's.
package sendqueue
