package scenario

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/entity-sync/entity-sync/bench/load"
	"github.com/entity-sync/entity-sync/bench/measure"
	"github.com/entity-sync/entity-sync/bench/server"
	"github.com/entity-sync/entity-sync/bench/workload"
)

const (
	fetchesOfAllowed = "fetches, of elapsed ÷ fetch time + 2"
	lagOfAllowed     = "last state, of 2 fetches + a fan-out"
)

// hotKey is S4: a key that changes faster than it can be fetched. The peers fetch
// nothing and have no part in it.
func (s Suite) hotKey() measure.Scenario {
	subjects := []server.Subject{server.EntitySync, server.WithNSQ}
	scenario := measure.Scenario{
		Name: "S4", Work: "one key that 1,000 clients watch, which takes 5 ms to fetch, announced again and again",
		Run: func(ctx context.Context, o measure.Options, report func(measure.Figure)) error {
			for _, subject := range subjects {
				if err := s.storms(ctx, o, figures{"S4", "", subject, report}); err != nil {
					return err
				}
			}
			return nil
		},
	}
	for _, subject := range subjects {
		scenario.Goals = append(scenario.Goals,
			measure.Goal{Subject: string(subject), Metric: fetchesOfAllowed, Max: 1},
			measure.Goal{Subject: string(subject), Metric: lagOfAllowed, Max: 1})
	}
	return scenario
}

const (
	hotFetchTime = 5 * time.Millisecond
	hotClients   = 1_000
)

func (s Suite) storms(ctx context.Context, o measure.Options, f figures) error {
	c := server.Config{Subject: f.subject, Layout: workload.OneKey(pick(s.size(o), 10, hotClients, hotClients)), FetchTime: hotFetchTime, Announcers: announcers}
	return s.onStageWithNSQ(ctx, c, func(g *stage) error {
		if _, err := g.connect(); err != nil {
			return err
		}
		alone, err := g.fanOut(load.FanOut{Changes: 20, Pause: betweenChanges})
		if err != nil {
			return err
		}
		f.name = "one notification"
		f.millis("last state on the last socket", alone.ToLast)
		// What a change alone takes is a fetch and a fan-out.
		allowed := alone.ToLast + hotFetchTime
		for _, perSecond := range []int{200, 2_000, 20_000} {
			f.name = measure.Count(perSecond, "notifications a second")
			if err := g.storm(perSecond, pick(s.size(o), 50*time.Millisecond, time.Second, 5*time.Second), allowed, f); err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
		}
		return nil
	})
}

// bursts is how often a storm breaks off, to see how long it takes until all have the
// last state.
const bursts = 10

func (g *stage) storm(perSecond int, duration, allowed time.Duration, f figures) error {
	var elapsed time.Duration
	var lags []time.Duration
	u, err := g.using(fmt.Sprint("S4 ", perSecond), func() error {
		for range bursts {
			d, err := g.pace(load.Pace{Changes: int(duration.Seconds()*float64(perSecond)) / bursts, PerSecond: perSecond})
			if err != nil {
				return err
			}
			elapsed += d.Elapsed
			lags = append(lags, d.LastDelay)
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.Sort(lags)
	last := lags[len(lags)/2]
	f.value(fetchesOfAllowed, "", float64(u.Fetches)/(elapsed.Seconds()/hotFetchTime.Seconds()+2*bursts))
	f.millis("last state on the last socket", last)
	f.value(lagOfAllowed, "", last.Seconds()/allowed.Seconds())
	f.millis(fmt.Sprint("last state on the last socket, the slowest of ", bursts), lags[len(lags)-1])
	f.value("CPU", "% of a core", 100*u.CPU.Seconds()/elapsed.Seconds())
	return nil
}
