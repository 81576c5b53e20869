package scenario

import (
	"context"
	"time"

	"github.com/entity-sync/entity-sync/bench/load"
	"github.com/entity-sync/entity-sync/bench/measure"
	"github.com/entity-sync/entity-sync/bench/server"
	"github.com/entity-sync/entity-sync/bench/workload"
)

const (
	cpuPerDelivery = "CPU per delivery"
	p50            = "median delay"
	p99            = "p99 delay"
	p99OfChange    = "p99 delay of the median change"
)

// fanOut is S1: one row to many clients.
func (s Suite) fanOut() measure.Scenario {
	subjects := []server.Subject{server.Bare, server.EntitySync, server.Classic, server.WithNSQ, server.Gorilla, server.Melody, server.Centrifuge}
	scenario := measure.Scenario{
		Name: "S1", Work: "one key, one scope, a row of 256 bytes to every subscriber", Reference: string(server.Bare),
		Run: func(ctx context.Context, o measure.Options, report func(measure.Figure)) error {
			for _, clients := range pick(s.size(o), []int{10}, []int{1_000, 10_000}, []int{1_000, 5_000, 10_000}) {
				for _, subject := range subjects {
					f := figures{"S1", measure.Count(clients, "subscribers"), subject, report}
					if err := s.fanOutTo(ctx, clients, pick(s.size(o), 100, 100_000, 400_000)/clients, f); err != nil {
						return err
					}
				}
			}
			return nil
		},
	}
	for _, subject := range []server.Subject{server.EntitySync, server.Classic, server.WithNSQ} {
		scenario.Goals = append(scenario.Goals,
			measure.Goal{Subject: string(subject), Metric: cpuPerDelivery, Ratio: true, Max: 1.05},
			measure.Goal{Subject: string(subject), Metric: p99, Ratio: true, Max: 1.10})
	}
	return scenario
}

// betweenChanges is how long nothing happens after a row has reached everybody.
const betweenChanges = 5 * time.Millisecond

func (s Suite) fanOutTo(ctx context.Context, clients, changes int, f figures) error {
	return s.onStageWithNSQ(ctx, server.Config{Subject: f.subject, Layout: workload.OneKey(clients)}, func(g *stage) error {
		if _, err := g.connect(); err != nil {
			return err
		}
		if _, err := g.fanOut(load.FanOut{Changes: max(5, changes/10), Pause: betweenChanges}); err != nil { // to warm up
			return err
		}
		var d load.Deliveries
		u, err := g.using("S1", func() (err error) {
			d, err = g.fanOut(load.FanOut{Changes: changes, Pause: betweenChanges})
			return err
		})
		if err != nil {
			return err
		}
		f.micros(cpuPerDelivery, u.CPU, d.Count)
		f.millis(p99, d.P99)
		f.millis(p99OfChange, d.P99OfChange)
		return nil
	})
}
