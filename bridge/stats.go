package bridge

import (
	"sync/atomic"

	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/bridge/events"
	"github.com/entity-sync/entity-sync/shared"
)

// counts are the engine's running figures.
type counts struct {
	clients, stale, subscriptions, keys, views atomic.Int64
	clientsEver                                atomic.Uint64
	sequence                                   atomic.Uint64 // numbers fetches and views, in the order in which they begin
	notified, coalesced                        atomic.Uint64
	resyncsJoined, resyncsLost, resyncsMidway  atomic.Uint64
	refreshed                                  atomic.Uint64
	fetches, failed, retried, lagged           atomic.Uint64
}

// Stats is a snapshot of a Bridge's figures. Those that say "since the start"
// only grow.
type Stats struct {
	Clients       int // connected now
	Stale         int // of those, the ones that watch something the node cannot vouch for; see FreshnessSink
	Subscriptions int // of all clients now
	Keys          int // distinct keys watched now
	Views         int // distinct pairs of key and scope now

	Notified    uint64 // keys announced as changed, here or on another node, since the start
	Coalesced   uint64 // marks of a view that cost no fetch, as one was owed to it already, since the start
	BadMessages uint64 // bus messages that could not be read, since the start
	Refused     uint64 // bus messages that were published without a key of this node's, since the start; see package sealed
	Lost        uint64 // bus messages that did not arrive, since the start
	Resyncs     Resyncs
	Refreshed   uint64 // views fetched again for EntityOptions.Refresh, since the start

	FetchesQueued  int    // views waiting for a worker now
	FetchesRunning int    // views being fetched now, or whose rows are being handed out
	Fetches        uint64 // views fetched since the start, whatever came of it
	FetchesFailed  uint64 // of those, the ones that failed
	FetchesLagged  uint64 // of those, the ones that read an older revision than one already pushed
	Retried        uint64 // fetches tried again after they had failed or lagged, since the start

	Events   events.Stats
	Entities map[shared.EntityType]EntityStats
	Brokers  []bus.BrokerStats // in no order; none where the bus does not know
}

// EntityStats is the figures of one entity type.
type EntityStats struct {
	Live           bool   // subscribed on the bus: changes announced elsewhere are heard
	FetchesQueued  int    // views waiting for a worker now
	FetchesRunning int    // views being fetched now
	Failing        uint64 // fetches failed in a row, up to now
}

// Resyncs is how often everything watched of an entity type was looked at again
// since the start, by reason.
type Resyncs struct {
	Joined uint64 // the bus was joined, or joined again
	Lost   uint64 // notifications did not arrive
	Midway uint64 // a node was first heard of after it had announced things
}

// Stats returns the figures as they are now.
func (b *Bridge) Stats() Stats {
	c, bus := &b.counts, b.feeds.Stats()
	s := Stats{
		Clients:       int(c.clients.Load()),
		Stale:         int(c.stale.Load()),
		Subscriptions: int(c.subscriptions.Load()),
		Keys:          int(c.keys.Load()),
		Views:         int(c.views.Load()),
		Notified:      c.notified.Load(),
		Coalesced:     c.coalesced.Load(),
		BadMessages:   bus.BadMessages,
		Lost:          bus.Lost,
		Resyncs: Resyncs{
			Joined: c.resyncsJoined.Load(),
			Lost:   c.resyncsLost.Load(),
			Midway: c.resyncsMidway.Load(),
		},
		Refreshed:     c.refreshed.Load(),
		Fetches:       c.fetches.Load(),
		FetchesFailed: c.failed.Load(),
		FetchesLagged: c.lagged.Load(),
		Retried:       c.retried.Load(),
		Refused:       bus.Refused,
		Brokers:       bus.Brokers,
		Events:        b.events.Stats(),
		Entities:      make(map[shared.EntityType]EntityStats),
	}
	for _, ent := range b.registered() {
		if ent.announced {
			continue
		}
		e := ent.stats()
		s.FetchesQueued += e.FetchesQueued
		s.FetchesRunning += e.FetchesRunning
		s.Entities[ent.name] = e
	}
	return s
}

func (e *entity) stats() EntityStats {
	return EntityStats{
		Live:           e.feed.Live(),
		FetchesQueued:  e.schedule.Len(),
		FetchesRunning: int(e.running.Load()),
		Failing:        e.failures.Load(),
	}
}

// Ready reports whether every registered entity type, and where there are channels their events,
// are subscribed on the bus (on one of its brokers at least), so that what is announced and
// published elsewhere is heard here.
func (b *Bridge) Ready() bool {
	for _, ent := range b.registered() {
		if !ent.announced && !ent.feed.Live() {
			return false
		}
	}
	return b.events.Live()
}
