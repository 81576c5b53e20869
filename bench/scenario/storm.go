package scenario

import (
	"context"
	"time"

	"github.com/entity-sync/entity-sync/bench/measure"
	"github.com/entity-sync/entity-sync/bench/process"
	"github.com/entity-sync/entity-sync/bench/server"
	"github.com/entity-sync/entity-sync/bench/workload"
)

const mostFetches = "fetches at once"

// reconnects is S8: everybody comes back at once. The bare loop upgrades, and says
// so with one small frame.
func (s Suite) reconnects() measure.Scenario {
	return measure.Scenario{
		Name: "S8", Work: "all clients come back at once, with 10 keys each that have not changed and take 1 ms to fetch", Reference: string(server.Bare),
		Goals: []measure.Goal{{Subject: string(server.EntitySync), Metric: mostFetches, Max: stormWorkers}},
		Run: func(ctx context.Context, o measure.Options, report func(measure.Figure)) error {
			clients := pick(s.size(o), 100, 2_000, 10_000)
			for _, subject := range []server.Subject{server.Bare, server.EntitySync, server.Centrifuge} {
				if err := s.reconnect(ctx, clients, figures{"S8", measure.Count(clients, "clients"), subject, report}); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

const (
	stormKeys      = 10
	stormWorkers   = 32
	stormFetchTime = time.Millisecond
)

func (s Suite) reconnect(ctx context.Context, clients int, f figures) error {
	c := server.Config{
		Subject: f.subject, Workers: stormWorkers, FetchTime: stormFetchTime,
		Layout: workload.Layout{Clients: clients, Each: stormKeys, Keys: clients}, // each key has 10 clients
	}
	return s.onStage(ctx, c, func(g *stage) error {
		if _, err := g.connect(); err != nil {
			return err
		}
		if err := g.hangUp(); err != nil {
			return err
		}
		if _, err := g.collect(); err != nil {
			return err
		}
		var took time.Duration
		u, err := g.using("S8", func() (err error) {
			took, err = g.connect()
			return err
		})
		if err != nil {
			return err
		}
		f.millis("time until all are live", took)
		f.micros("CPU per client", u.CPU, clients)
		if f.subject == server.EntitySync {
			f.value("fetches per key", "", float64(u.Fetches)/float64(c.Layout.Keys))
			f.value(mostFetches, "", float64(u.MostFetches))
		}
		return nil
	})
}

// hangUp ends all connections, and waits until the server knows. The bare loop
// does not look.
func (g *stage) hangUp() error {
	if err := g.load.Ask(g.ctx, "hang up", process.None{}, nil); err != nil || g.config.Subject == server.Bare {
		return err
	}
	return g.untilWatched(0)
}
