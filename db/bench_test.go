package db_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/shared"
)

// BenchmarkFetch fetches 10,000 keys that changed: one by one, as three workers do
// it on a pool of four connections, and in one batch; by themselves, and as seen by
// one viewer, and by a hundred.
func BenchmarkFetch(b *testing.B) {
	const keys, workers = 10_000, 3
	d := pgtest.Shared(b).NewDatabase(b, fmt.Sprintf(`
		create table items (id bigint primary key, owner text, name text, price numeric);
		insert into items select i, 'ann', 'item number ' || i, i / 100.0 from generate_series(1, %d) i;
		alter table items enable row level security;
		create policy own on items using (current_setting('app.viewer', true) <> '');
		create role es_bench login; grant select on items to es_bench;
		analyze items`, keys))
	b.Cleanup(func() { d.Exec(b, "drop owned by es_bench; drop role es_bench") })
	owner, reader := pgtest.Pool(b, d.URL(), 4), pgtest.Pool(b, d.URLAs("es_bench"), 4)
	const one, all = "select * from items where id = $1", "select * from items where id = any($1)"
	viewer := db.Setting("app.viewer")
	for _, c := range []struct {
		name    string
		query   *db.Query
		viewers int
	}{
		{"one by one", db.Rows(owner, one), 1},
		{"batch", db.Batch(owner, all), 1},
		{"one by one as viewer", db.Rows(reader, one).AsViewer(viewer), 1},
		{"batch as viewer", db.Batch(reader, all).AsViewer(viewer), 1},
		{"batch as 100 viewers", db.Batch(reader, all).AsViewer(viewer), 100},
	} {
		b.Run(c.name, func(b *testing.B) {
			requests := make([]shared.FetchRequest, keys)
			for i := range requests {
				requests[i] = shared.FetchRequest{
					Key:    shared.EntityKey{Entity: "items", ID: fmt.Sprint(i + 1)},
					Secret: shared.NewSecret(fmt.Sprint("viewer ", i%c.viewers)),
				}
			}
			parts := [][]shared.FetchRequest{requests}
			if c.query.BatchSize() == 1 {
				parts = nil
				for i := range workers {
					parts = append(parts, requests[i*keys/workers:(i+1)*keys/workers])
				}
			}
			for b.Loop() {
				var wg sync.WaitGroup
				for _, part := range parts {
					wg.Go(func() {
						for _, r := range c.query.FetchBatch(b.Context(), part) {
							if r.Err != nil || len(r.Rows) != 1 {
								b.Errorf("%q, %v", r.Rows, r.Err)
								return
							}
						}
					})
				}
				wg.Wait()
			}
			b.ReportMetric(float64(b.N)*keys/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkABadRow fetches 1,024 keys in one batch: without a row that makes the statement
// fail, and with one. The time is that of each of the good ones.
func BenchmarkABadRow(b *testing.B) {
	const keys = 1024
	d := pgtest.Shared(b).NewDatabase(b, fmt.Sprintf(`
		create table items (id bigint primary key, name text, price text);
		insert into items select i, 'item number ' || i, i from generate_series(1, %d) i;
		analyze items`, keys))
	q := db.Batch(pgtest.Pool(b, d.URL(), 2), "select id, name, price::int from items where id = any($1)")
	requests := make([]shared.FetchRequest, keys)
	for i := range requests {
		requests[i] = shared.FetchRequest{Key: shared.EntityKey{Entity: "items", ID: fmt.Sprint(i + 1)}}
	}
	for _, c := range []struct {
		name string
		bad  int // the id
	}{{"none", 0}, {"the first", 1}, {"one in the middle", 700}, {"the last", keys}} {
		b.Run(c.name, func(b *testing.B) {
			d.Exec(b, "update items set price = case id when $1 then 'x' else id::text end", c.bad)
			d.Exec(b, "vacuum items")
			for b.Loop() {
				for i, r := range q.FetchBatch(b.Context(), requests) {
					if bad := i+1 == c.bad; bad == (r.Err == nil) {
						b.Fatalf("%q, %v", r.Rows, r.Err)
					}
				}
			}
		})
	}
}
