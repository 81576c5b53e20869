// Package sendqueue holds what waits to be written to each client, in three lanes beside one
// another: the newest update of each key, events, and frames that are sent in order.
//
// What waits is bounded, so a slow client costs memory in proportion to what it subscribed
// to, and no other client waits for it. A Queue that nothing waits in has no goroutine.
//
// A Queue knows nothing of what updates mean and how frames are carried: see Encoder and
// Transport. The locks are taken in this order: a Queue's, then the Group's.
package sendqueue
