package scenario

import (
	"context"
	"log/slog"
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
			clients, further := pick(s.size(o), 100, 2_000, 10_000), pick(s.size(o), more{2, 100}, more{50, 1_000}, more{50, 1_000})
			idle := pick(s.size(o), 0, 3*time.Second, 30*time.Second)
			for _, subject := range []server.Subject{server.Bare, server.EntitySync, server.Classic, server.Gorilla, server.Melody, server.Centrifuge} {
				f := figures{"S2", measure.Count(clients, "connections"), subject, report}
				if err := s.idleClients(ctx, clients, further, idle, f, o.Log); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// more is the further subscriptions: those of several clients, so that there is
// something to measure. The memory of a process comes in pages.
type more struct{ clients, each int }

func (s Suite) idleClients(ctx context.Context, clients int, further more, idle time.Duration, f figures, log *slog.Logger) error {
	c := server.Config{Subject: f.subject, Layout: workload.OwnKeys(clients, 1), MaxSubscriptions: further.each + 1, Further: further.clients * further.each}
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
		log.Info("memory per connection", slog.String("subject", string(f.subject)), slog.Int("resident", (connected.Resident-empty.Resident)/clients),
			slog.Int("heap", (connected.Heap-empty.Heap)/clients), slog.Int("stacks", (connected.Stack-empty.Stack)/clients))
		switch f.subject {
		case server.Bare, server.Gorilla, server.Melody: // which know of no subscriptions themselves
			return nil
		}
		return g.furtherSubscriptions(further, connected, f, log)
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
func (g *stage) furtherSubscriptions(further more, before process.Memory, f figures, log *slog.Logger) error {
	all, per := g.config.Layout.Subscriptions(), further.clients*further.each
	name := measure.Count(further.each, "more on each of ") + measure.Count(further.clients, "connections")
	for _, round := range []struct {
		name  string
		first int // of the clients
		key   func(n int) int
	}{
		{name + ", own keys", 0, func(n int) int { return g.config.Layout.Keys + n*further.each }},
		{name + ", shared keys", further.clients, func(int) int { return g.config.Layout.Keys }},
	} {
		for n := range further.clients {
			m := load.More{Client: round.first + n, First: round.key(n), Keys: further.each}
			if err := g.load.Ask(g.ctx, "subscribe", m, nil); err != nil {
				return err
			}
		}
		all += per
		if err := g.untilWatched(all); err != nil {
			return err
		}
		after, err := g.idleMemory(0)
		if err != nil {
			return err
		}
		log.Info("memory per further subscription", slog.String("subject", string(f.subject)), slog.String("case", round.name), slog.Int("resident", (after.Resident-before.Resident)/per),
			slog.Int("heap", (after.Heap-before.Heap)/per), slog.Int("stacks", (after.Stack-before.Stack)/per))
		f.name = round.name
		f.value(memoryPerSubscription, "bytes", float64(after.Resident-before.Resident)/float64(per))
		before = after
	}
	return nil
}
