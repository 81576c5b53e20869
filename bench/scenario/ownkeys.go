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
			sizes := pick(o, []int{100, 2_000}, []int{100, 1_000, 5_000})
			for _, subject := range []server.Subject{server.Bare, server.EntitySync, server.Classic, server.WithNSQ, server.Gorilla, server.Melody, server.Centrifuge} {
				f := figures{"S3", "", subject, report}
				var first, last float64
				for i, clients := range sizes {
					f.name = counted(clients, "clients")
					var err error
					if last, err = s.changeOwnKeys(ctx, clients, pick(o, 4_000, 20_000), f); err != nil {
						return err
					}
					if i == 0 {
						first = last
					}
				}
				f.name = fmt.Sprintf("from %s to %s", counted(sizes[0], ""), counted(sizes[len(sizes)-1], "clients"))
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
	return micros, s.onStageWithNSQ(ctx, c, func(g *stage) error {
		if _, err := g.connect(); err != nil {
			return err
		}
		if _, err := g.pace(load.Pace{Changes: changes / 10, PerSecond: changesPerSecond, Each: true}); err != nil { // to warm up
			return err
		}
		var d load.Deliveries
		u, err := g.using("S3", func() (err error) {
			d, err = g.pace(load.Pace{Changes: changes, PerSecond: changesPerSecond, Each: true, Seed: 1})
			return err
		})
		if err != nil {
			return err
		}
		micros = float64(u.CPU.Nanoseconds()) / 1e3 / float64(changes)
		f.value(cpuPerChange, "µs", micros)
		f.millis(p50, d.P50)
		f.millis(p99, d.P99)
		return nil
	})
}
