package es_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/testkit/nodetest"
	"github.com/entity-sync/entity-sync/shared"
)

// An option that would have no effect where it stands is an error that names it, and
// so is nil, whether the database can be asked or not.
func TestOptionsWithoutEffectAreErrors(t *testing.T) {
	s := nodetest.New(t, es.Config{})
	pool, other := lazyPool(t), lazyPool(t)
	ctx := t.Context()
	one := func(opts ...es.Option) error {
		return es.Register(s, "items", func(context.Context, shared.EntityKey, string) (int, error) { return 0, nil }, opts...)
	}
	rows := func(opts ...es.Option) error {
		return es.RegisterRows(s, "items", func(context.Context, shared.EntityKey, string) ([]int, error) { return nil, nil }, opts...)
	}
	batch := func(opts ...es.Option) error {
		return es.RegisterBatch(s, "items", func(context.Context, []shared.FetchRequest) []shared.FetchResult { return nil }, opts...)
	}
	query := func(opts ...es.Option) error {
		return es.RegisterQuery(ctx, s, "items", db.Rows(pool, itemSQL), opts...)
	}
	queries := func(opts ...es.Option) error {
		return es.RegisterQuery(ctx, s, "items", db.Batch(pool, itemsSQL), opts...)
	}
	version, revision := es.WithVersion(func(int) string { return "" }), es.WithRevision(func(int) int64 { return 0 })
	for _, c := range []struct {
		register func(...es.Option) error
		option   es.Option
		want     string
	}{
		{one, es.WithBatchSize(7), "WithBatchSize(7) has no effect: one key is fetched at a time, unless it is registered with RegisterBatch"},
		{rows, es.WithBatchSize(7), "WithBatchSize(7) has no effect"},
		{query, es.WithBatchSize(7), "unless it is registered with db.Batch or db.BatchOf"},
		{batch, version, "WithVersion and WithRevision are not for batches"},
		{batch, revision, "WithVersion and WithRevision are not for batches"},
		{query, version, "WithVersion and WithRevision are not for queries"},
		{queries, revision, "WithVersion and WithRevision are not for queries"},
		{one, es.WithVersion(func(string) string { return "" }), "WithVersion's function is a func(string) string, want a func(int) string"},
		{rows, revision, "WithRevision's function is a func(int) int64, want a func([]int) int64"},
		{one, es.WithVersion[int](nil), "WithVersion's function is nil"},
		{one, es.WithRevision[int](nil), "WithRevision's function is nil"},
		{batch, es.WithScope(nil), "WithScope's function is nil"},
		{queries, es.WithScope(nil), "WithScope's function is nil"},
		{one, es.WithPool(nil), "WithPool's pool is nil"},
		{query, es.WithPool(nil), "WithPool's pool is nil"},
		{query, es.WithPool(other), "WithPool has another pool than the query"},
		{one, nil, "option 1 of 1 is nil"},
		{queries, nil, "option 1 of 1 is nil"},
		{query, es.WithWorkers(4), "WithWorkers(4) is more than the 3 of the pool's 4 connections that fetches may have: ask for no more, or set pool_max_conns in the pool's URL to 6"},
		{withPool(one, pool), es.WithWorkers(32), "more than the 3 of the pool's 4 connections"},
		{one, es.WithRetry(0, time.Second), "want an interval that begins above 0"},
		{one, es.WithRefresh(time.Millisecond), "Refresh is 1ms, want 1s or more"},
	} {
		if err := c.register(c.option); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("registering returned %v, want %q", err, c.want)
		}
	}
}

// A handler, a query or a pool that is nil is an error, and so is what a query needs.
func TestNilIsNotRegistered(t *testing.T) {
	s, pool, ctx := nodetest.New(t, es.Config{}), lazyPool(t), t.Context()
	for name, err := range map[string]error{
		"a nil handler":       es.Register[int](s, "items", nil),
		"a nil handler, rows": es.RegisterRows[int](s, "items", nil),
		"a nil batch handler": es.RegisterBatch(s, "items", nil),
		"a nil query":         es.RegisterQuery(ctx, s, "items", nil),
		"a nil pool":          es.RegisterQuery(ctx, s, "items", db.Rows(nil, itemSQL)),
		"no claims":           es.RegisterQuery(ctx, s, "items", db.Batch(pool, itemsSQL).AsViewer(nil)),
		"an empty statement":  es.RegisterQuery(ctx, s, "items", db.Rows(pool, "")),
		"a nil classic one":   s.RegisterEntityAndDBHandler("items", nil),
	} {
		if err == nil || !(strings.Contains(err.Error(), "nil") || errors.Is(err, db.ErrBadQuery)) {
			t.Errorf("%s: %v, want an error", name, err)
		}
	}
	if _, err := es.New(es.Config{Outbox: &outbox.Config{}}); err == nil || !strings.Contains(err.Error(), "es.Config.Outbox.Pool: is nil") {
		t.Errorf("an outbox without a pool: %v", err)
	}
}

// Where an option has an effect it is taken, and zero is the default everywhere.
func TestOptionsWithAnEffectAreTaken(t *testing.T) {
	s, pool := nodetest.New(t, es.Config{}), lazyPool(t)
	zero := []es.Option{es.WithWorkers(0), es.WithTimeout(0), es.WithRetry(0, 0), es.WithMaxBytes(0), es.WithBatchSize(0), es.WithResyncRate(0), es.WithRefresh(0)}
	some := []es.Option{es.WithWorkers(3), es.WithTimeout(time.Second), es.WithRetry(time.Second, time.Minute), es.WithMaxBytes(1), es.WithResyncRate(1),
		es.WithRefresh(time.Hour), es.WithOnlyDifferences(), es.WithScope(func(string) string { return "" }), es.WithPool(pool)}
	fetch := func(context.Context, shared.EntityKey, string) (int, error) { return 0, nil }
	fetchBatch := func(context.Context, []shared.FetchRequest) []shared.FetchResult { return nil }
	for name, err := range map[string]error{
		"one, zero":   es.Register(s, "one0", fetch, zero...),
		"one":         es.Register(s, "one", fetch, append(some, es.WithVersion(func(int) string { return "" }))...),
		"batch, zero": es.RegisterBatch(s, "batch0", fetchBatch, zero...),
		"batch":       es.RegisterBatch(s, "batch", fetchBatch, append(some, es.WithBatchSize(7))...),
		"rows, zero":  es.RegisterQuery(t.Context(), s, "rows0", db.Rows(pool, itemSQL), zero...),
		"rows":        es.RegisterQuery(t.Context(), s, "rows", db.Rows(pool, itemSQL), some...),
		"query":       es.RegisterQuery(t.Context(), s, "query", db.Batch(pool, itemsSQL), append(some, es.WithBatchSize(7))...),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// lazyPool returns a pool of 4 connections to a database that is not there.
func lazyPool(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool, err := db.Open(t.Context(), "postgres://nobody@127.0.0.1:1/nothing?pool_max_conns=4")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// withPool is register with es.WithPool before the other options.
func withPool(register func(...es.Option) error, pool *pgxpool.Pool) func(...es.Option) error {
	return func(opts ...es.Option) error { return register(append([]es.Option{es.WithPool(pool)}, opts...)...) }
}
