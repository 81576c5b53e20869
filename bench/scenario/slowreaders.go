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
	othersDelay = "p99 delay of the others, of that while all read"
	heldMemory  = "memory held per subscription of the stopped"
)

// slowReaders is S9: some clients stop reading. The bare loop would stand still
// with them; what the others are held against is the time before.
func (s Suite) slowReaders() measure.Scenario {
	return measure.Scenario{
		Name: "S9", Work: "1,000 changes a second, while one client in ten reads nothing",
		Goals: []measure.Goal{
			{Subject: string(server.EntitySync), Metric: othersDelay, Max: 1.1},
			{Subject: string(server.EntitySync), Metric: heldMemory, Max: 1024},
		},
		Run: func(ctx context.Context, o measure.Options, report func(measure.Figure)) error {
			return s.stopReading(ctx, pick(s.size(o), 100*time.Millisecond, 3*time.Second, 10*time.Second), figures{"S9", "", server.EntitySync, report})
		},
	}
}

// Each key has 20 clients, and each client hears of 200 changes a second: what the
// operating system holds for one that does not read is full within seconds.
var slowLayout = workload.Layout{Clients: 100, Each: 100, Keys: 500}

const (
	slowPerSecond = 1_000
	oneIn         = 10
)

func (s Suite) stopReading(ctx context.Context, duration time.Duration, f figures) error {
	// A client that reads nothing, and answers no ping, for longer would be closed.
	c := server.Config{Subject: f.subject, Layout: slowLayout, Announcers: announcers, Patience: time.Minute}
	changes := load.Pace{Changes: int(duration.Seconds() * slowPerSecond), PerSecond: slowPerSecond}
	return s.onStage(ctx, c, func(g *stage) error {
		if _, err := g.connect(); err != nil {
			return err
		}
		if _, err := g.pace(load.Pace{Changes: slowPerSecond, PerSecond: slowPerSecond}); err != nil { // to warm up
			return err
		}
		before, err := g.pace(changes)
		if err != nil {
			return err
		}
		empty, err := g.collect()
		if err != nil {
			return err
		}
		if err := g.load.Ask(g.ctx, "stop", oneIn, nil); err != nil {
			return err
		}
		f.name = "all read"
		f.millis(p99, before.P99)
		for _, name := range []string{"at first", "later"} {
			var d load.Deliveries
			_, err := g.using("S9", func() (err error) {
				d, err = g.pace(changes)
				return err
			})
			if err != nil {
				return err
			}
			held, err := g.collect()
			if err != nil {
				return err
			}
			f.name = "one in ten stopped, " + name
			f.millis("p99 delay of the others", d.P99)
			f.value(othersDelay, "", d.P99.Seconds()/before.P99.Seconds())
			f.value(heldMemory, "bytes", heldPerSubscription(empty, held))
		}
		return g.load.Ask(g.ctx, "resume", struct{}{}, nil)
	})
}

func heldPerSubscription(before, after process.Memory) float64 {
	return float64(after.Heap-before.Heap) / (float64(slowLayout.Subscriptions()) / oneIn)
}
