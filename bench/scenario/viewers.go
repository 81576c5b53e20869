package scenario

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/entity-sync/entity-sync/bench/load"
	"github.com/entity-sync/entity-sync/bench/measure"
	"github.com/entity-sync/entity-sync/bench/server"
	"github.com/entity-sync/entity-sync/bench/workload"
	"github.com/entity-sync/entity-sync/internal/pgtest"
)

const (
	toLast          = "time to the last socket"
	toLastOfAllowed = "time to the last socket, of 2 × the bare loop + the query"
	queriesPer      = "queries per change"
)

// viewers is S5: a row that everybody sees in another way. The bare loop, which
// knows nothing of that, writes one frame to all.
func (s Suite) viewers() measure.Scenario {
	return measure.Scenario{
		Name: "S5", Work: "viewers of one row with a secret each, fetched from PostgreSQL with one statement", Reference: string(server.Bare),
		Goals: []measure.Goal{
			{Subject: string(server.EntitySync), Metric: queriesPer, Max: 1},
			{Subject: string(server.EntitySync), Metric: toLastOfAllowed, Max: 1},
		},
		Run: s.changeForViewers,
	}
}

func (s Suite) changeForViewers(ctx context.Context, o measure.Options, report func(measure.Figure)) (err error) {
	layout := workload.OneKey(pick(s.size(o), 10, 1_000, 10_000))
	changes := pick(s.size(o), 2, 5, 20)
	f := figures{"S5", measure.Count(layout.Clients, "viewers"), server.Bare, report}
	var bare time.Duration
	if err := s.onStage(ctx, server.Config{Subject: server.Bare, Layout: layout}, func(g *stage) error {
		d, err := g.connectAndFanOut(load.FanOut{Changes: changes, Pause: betweenChanges})
		bare = d.ToLast
		return err
	}); err != nil {
		return err
	}
	f.millis(toLast, bare)
	f.subject = server.EntitySync
	database, stop, err := startDatabase(ctx, server.ViewersSchema(layout.Clients))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	c := server.Config{Subject: server.EntitySync, Layout: layout, Database: database}
	return s.onStage(ctx, c, func(g *stage) error {
		if _, err := g.connect(); err != nil {
			return err
		}
		query, err := g.queryTime()
		if err != nil {
			return err
		}
		var d load.Deliveries
		u, err := g.using("S5", func() (err error) {
			d, err = g.fanOut(load.FanOut{Changes: changes, Pause: betweenChanges})
			return err
		})
		if err != nil {
			return err
		}
		f.millis("the query alone", query)
		f.value(queriesPer, "", float64(u.Fetches)/float64(changes))
		f.millis(toLast, d.ToLast)
		f.value(toLastOfAllowed, "", d.ToLast.Seconds()/(2*bare+query).Seconds())
		f.micros(cpuPerDelivery, u.CPU, d.Count)
		return nil
	})
}

func (g *stage) connectAndFanOut(f load.FanOut) (load.Deliveries, error) {
	if _, err := g.connect(); err != nil {
		return load.Deliveries{}, err
	}
	return g.fanOut(f)
}

// queryTime is how long the query of all viewers takes, the median of some times.
func (g *stage) queryTime() (time.Duration, error) {
	times := make([]time.Duration, 5)
	for n := range times {
		if err := g.server.Ask(g.ctx, "query", struct{}{}, &times[n]); err != nil {
			return 0, err
		}
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}

// startDatabase starts a PostgreSQL of its own, and returns the URL of a database
// with a schema.
func startDatabase(ctx context.Context, schema string) (url string, stop func() error, err error) {
	pg, err := pgtest.New()
	if err != nil {
		return "", nil, err
	}
	d := pgtest.Database{Server: pg, Name: "postgres"}
	conn, err := pgx.Connect(ctx, d.URL())
	if err == nil {
		_, err = conn.Exec(ctx, schema)
		err = errors.Join(err, conn.Close(ctx))
	}
	if err != nil {
		return "", nil, errors.Join(err, pg.Close())
	}
	return d.URL(), pg.Close, nil
}
