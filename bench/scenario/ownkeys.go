package scenario

import (
	"context"
	"fmt"

	"github.com/entity-sync/entity-sync/bench/load"
	"github.com/entity-sync/entity-sync/bench/measure"
	"github.com/entity-sync/entity-sync/bench/server"
	"github.com/entity-sync/entity-sync/bench/workload"
)

const (
	cpuPerChange = "CPU per change"
	growth       = "growth of CPU per change"
)

// ownKeys is S3: changes that concern one client each, among more and more of them.
func (s Suite) ownKeys() measure.Scenario {
	return measure.Scenario{
		Name: "S3", Work: "10 keys of its own for each client, changes of one key after the other", Reference: string(server.Bare),
		Goals: []measure.Goal{
			{Subject: string(server.EntitySync), Metric: cpuPerChange, Ratio: true, Max: 1.5},
			{Subject: string(server.Classic), Metric: cpuPerChange, Ratio: true, Max: 1.5},
			{Subject: string(server.WithNSQ), Metric: cpuPerChange, Ratio: true, Max: 2.5},
			{Subject: string(server.EntitySync), Metric: growth, Ratio: true, Max: 1},
			{Subject: string(server.Classic), Metric: growth, Ratio: true, Max: 1},
			{Subject: string(server.WithNSQ), Metric: growth, Ratio: true, Max: 1},
		},
		Run: func(ctx context.Context, o measure.Options, report func(measure.Figure)) error {
			sizes := pick(s.size(o), []int{5, 10}, []int{100, 2_000}, []int{100, 1_000, 5_000})
			for _, subject := range []server.Subject{server.Bare, server.EntitySync, server.Classic, server.WithNSQ, server.Gorilla, server.Melody, server.Centrifuge} {
				f := figures{"S3", "", subject, report}
				var first, last float64
				for i, clients := range sizes {
					f.name = measure.Count(clients, "clients")
					var err error
					if last, err = s.changeOwnKeys(ctx, clients, pick(s.size(o), 100, 4_000, 20_000), f); err != nil {
						return err
					}
					if i == 0 {
						first = last
					}
				}
				f.name = fmt.Sprintf("from %d to %s", sizes[0], measure.Count(sizes[len(sizes)-1], "clients"))
				f.value(growth, "×", last/first)
			}
			return nil
		},
	}
}

const (
	ownKeysEach      = 10
	changesPerSecond = 4_000
)

// changeOwnKeys returns the microseconds of processor time for a change.
func (s Suite) changeOwnKeys(ctx context.Context, clients, changes int, f figures) (micros float64, err error) {
	c := server.Config{Subject: f.subject, Layout: workload.OwnKeys(clients, ownKeysEach)}
	if f.subject == server.WithNSQ {
		c.Announcers = announcers
	}
	return micros, s.onStageWithNSQ(ctx, c, func(g *stage) error {
		if _, err := g.connect(); err != nil {
			return err
		}
		if _, err := g.pace(load.Pace{Changes: changes / 10, PerSecond: changesPerSecond}); err != nil { // to warm up
			return err
		}
		// Entity Sync may put two changes of a key together, where the machine stands
		// still for so long. What it skips does not count.
		var d load.Deliveries
		each := f.subject != server.EntitySync && f.subject != server.Classic && f.subject != server.WithNSQ
		u, err := g.using("S3", func() (err error) {
			d, err = g.pace(load.Pace{Changes: changes, PerSecond: changesPerSecond, Each: each, Seed: 1})
			return err
		})
		if err != nil {
			return err
		}
		micros = float64(u.CPU.Nanoseconds()) / 1e3 / float64(d.Count)
		f.value(cpuPerChange, "µs", micros)
		f.millis(p50, d.P50)
		return nil
	})
}
