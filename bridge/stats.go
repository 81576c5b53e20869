package bridge

import "sync/atomic"

// counts are the engine's running figures.
type counts struct {
	clients, subscriptions, views               atomic.Int64
	notified, badMessages                       atomic.Uint64
	resyncsJoined, resyncsLost, resyncsStranger atomic.Uint64
	fetches, failed                             atomic.Uint64
}

// Stats is a snapshot of a Bridge's figures. Those that say "since the start"
// only grow.
type Stats struct {
	Clients       int // connected now
	Subscriptions int // of all clients now
	Views         int // distinct pairs of key and scope now
	FetchesQueued int // views waiting for a worker now

	Notified      uint64 // keys heard as changed on the bus, since the start
	BadMessages   uint64 // bus messages that could not be read, since the start
	Resyncs       Resyncs
	Fetches       uint64 // calls of fetch handlers, since the start
	FetchesFailed uint64 // of those, the ones that failed and are retried, since the start
}

// Resyncs is how often everything watched of an entity type was looked at again
// since the start, by reason.
type Resyncs struct {
	Joined   uint64 // the bus was joined, or joined again
	Lost     uint64 // a notification did not arrive
	Stranger uint64 // a node was first heard of after it had announced things
}

// Stats returns the figures as they are now.
func (b *Bridge) Stats() Stats {
	s := Stats{
		Clients:       int(b.counts.clients.Load()),
		Subscriptions: int(b.counts.subscriptions.Load()),
		Views:         int(b.counts.views.Load()),
		Notified:      b.counts.notified.Load(),
		BadMessages:   b.counts.badMessages.Load(),
		Resyncs: Resyncs{
			Joined:   b.counts.resyncsJoined.Load(),
			Lost:     b.counts.resyncsLost.Load(),
			Stranger: b.counts.resyncsStranger.Load(),
		},
		Fetches:       b.counts.fetches.Load(),
		FetchesFailed: b.counts.failed.Load(),
	}
	for _, ent := range b.registered() {
		s.FetchesQueued += ent.queue.length()
	}
	return s
}

// Ready reports whether every registered entity type is subscribed on the bus
// (on one of its brokers at least), so that changes announced elsewhere are
// heard here.
func (b *Bridge) Ready() bool {
	for _, ent := range b.registered() {
		if !ent.live.Load() {
			return false
		}
	}
	return true
}
