package scenario

import (
	"context"
	"time"

	"github.com/entity-sync/entity-sync/bench/load"
	"github.com/entity-sync/entity-sync/bench/measure"
	"github.com/entity-sync/entity-sync/bench/process"
	"github.com/entity-sync/entity-sync/bench/server"
	"github.com/entity-sync/entity-sync/bench/workload"
)

const (
	memoryPerConnection   = "resident memory per connection"
	memoryPerSubscription = "resident memory per further subscription"
)

// idle is S2: what clients hold of a server's memory that do nothing.
func (s Suite) idle() measure.Scenario {
	return measure.Scenario{
		Name: "S2", Work: "idle connections with one subscription each, then 1,000 more subscriptions on some of them", Reference: string(server.Bare),
		Goals: []measure.Goal{
			{Subject: string(server.EntitySync), Metric: memoryPerConnection, Max: 4},
			{Subject: string(server.Classic), Metric: memoryPerConnection, Max: 4},
			{Subject: string(server.EntitySync), Metric: memoryPerSubscription, Max: 300},
			{Subject: string(server.Classic), Metric: memoryPerSubscription, Max: 300},
		},
		Run: func(ctx context.Context, o measure.Options, report func(measure.Figure)) error {
			clients := pick(o, 2_000, 10_000)
			for _, subject := range []server.Subject{server.Bare, server.EntitySync, server.Classic, server.Gorilla, server.Melody, server.Centrifuge} {
				f := figures{"S2", counted(clients, "connections"), subject, report}
				if err := s.idleClients(ctx, clients, pick(o, 3*time.Second, 30*time.Second), f); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// The further subscriptions are those of several clients, so that there is something
// to measure: the memory of a process comes in pages.
const (
	subscribers = 50
	further     = 1_000
)

func (s Suite) idleClients(ctx context.Context, clients int, idle time.Duration, f figures) error {
	c := server.Config{Subject: f.subject, Layout: workload.OwnKeys(clients, 1), MaxSubscriptions: further + 1, Further: subscribers * further}
	return s.onStage(ctx, c, func(g *stage) error {
		empty, err := g.collect()
		if err != nil {
			return err
		}
		if _, err := g.connect(); err != nil {
			return err
		}
		connected, err := g.idleMemory(idle)
		if err != nil {
			return err
		}
		f.value(memoryPerConnection, "KiB", float64(connected.Resident-empty.Resident)/float64(clients)/1024)
		f.value("of that on the heap", "KiB", float64(connected.Heap-empty.Heap)/float64(clients)/1024)
		f.value("of that on stacks", "KiB", float64(connected.Stack-empty.Stack)/float64(clients)/1024)
		switch f.subject {
		case server.Bare, server.Gorilla, server.Melody: // which know of no subscriptions themselves
			return nil
		}
		return g.furtherSubscriptions(connected, f)
	})
}

func (g *stage) idleMemory(idle time.Duration) (process.Memory, error) {
	if err := g.idle(idle); err != nil {
		return process.Memory{}, err
	}
	return g.collect()
}

// furtherSubscriptions measures keys that nobody watches yet, and then the same
// keys for others.
func (g *stage) furtherSubscriptions(before process.Memory, f figures) error {
	per := counted(further, "more on each of ") + counted(subscribers, "connections")
	all := g.config.Layout.Subscriptions()
	for _, round := range []struct {
		name  string
		first int // of the clients
		key   func(n int) int
	}{
		{per + ", own keys", 0, func(n int) int { return g.config.Layout.Keys + n*further }},
		{per + ", shared keys", subscribers, func(int) int { return g.config.Layout.Keys }},
	} {
		for n := range subscribers {
			more := load.More{Client: round.first + n, First: round.key(n), Keys: further}
			if err := g.load.Ask(g.ctx, "subscribe", more, nil); err != nil {
				return err
			}
		}
		all += subscribers * further
		if err := g.untilWatched(all); err != nil {
			return err
		}
		after, err := g.idleMemory(time.Second)
		if err != nil {
			return err
		}
		f.name = round.name
		f.value(memoryPerSubscription, "bytes", float64(after.Resident-before.Resident)/subscribers/further)
		before = after
	}
	return nil
}
