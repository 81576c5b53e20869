package server

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/entity-sync/entity-sync/bench/workload"
	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/shared"
)

// viewers is a node of Entity Sync whose clients each see an item in their own way,
// which PostgreSQL knows: there is a scope for each secret, and all of them are
// fetched with one statement.
type viewers struct {
	*entitySync
	table *workload.Table
	pool  *pgxpool.Pool
	all   []shared.FetchRequest // of everybody, for the item 0
}

// ViewersSchema makes the tables that viewers reads: an item, and so many who may
// see it.
func ViewersSchema(n int) string {
	return fmt.Sprintf(`
		create table items (id int primary key, revision int not null, at bigint not null);
		create table viewers (secret text primary key, number int not null, item int not null references items);
		insert into items values (0, 0, 0);
		insert into viewers select '%s' || i, i + 1, 0 from generate_series(0, %d) i;
		analyze`, workload.Secret(0)[:len(workload.Secret(0))-1], n-1)
}

const (
	selectViewers = `
		select a.n, i.id, i.revision, i.at, v.number
		from unnest($1::text[], $2::int[]) with ordinality a (secret, item, n)
		join viewers v on v.secret = a.secret and v.item = a.item
		join items i on i.id = a.item`
	updateItem = `update items set revision = $2, at = $3 where id = $1`
)

func newViewers(c Config, t *workload.Table) (*viewers, error) {
	node, err := newNode(c)
	if err != nil {
		return nil, err
	}
	pool, err := db.Open(context.Background(), c.Database)
	if err != nil {
		return nil, err
	}
	v := &viewers{entitySync: node, table: t, pool: pool}
	for n := range c.Layout.Clients {
		v.all = append(v.all, shared.FetchRequest{Key: shared.EntityKey{Entity: workload.Entity, ID: workload.ID(0)}, Secret: shared.NewSecret(workload.Secret(n))})
	}
	return v, es.RegisterBatch(node.EntitySync, workload.Entity, v.fetch, es.WithPool(pool))
}

// fetch reads all that is asked for with one statement.
func (v *viewers) fetch(ctx context.Context, requests []shared.FetchRequest) []shared.FetchResult {
	defer v.begin()()
	results := make([]shared.FetchResult, len(requests))
	if err := v.read(ctx, requests, results); err != nil {
		for n := range results {
			results[n] = shared.FetchResult{Err: err}
		}
	}
	return results
}

func (v *viewers) read(ctx context.Context, requests []shared.FetchRequest, results []shared.FetchResult) error {
	secrets, items := make([]string, len(requests)), make([]int, len(requests))
	for n, r := range requests {
		var err error
		if items[n], err = workload.KeyOf(r.Key.ID); err != nil {
			return err
		}
		secrets[n] = r.Secret.Reveal()
	}
	rows, err := v.pool.Query(ctx, selectViewers, secrets, items)
	if err != nil {
		return err
	}
	var n int
	var row workload.Row
	_, err = pgx.ForEachRow(rows, []any{&n, &row.Key, &row.Revision, &row.At, &row.Viewer}, func() error {
		results[n-1].Rows = [][]byte{row.Append(nil)}
		return nil
	})
	return err
}

// timeQuery returns how long the statement takes for all viewers, until there is a
// row for each.
func (v *viewers) timeQuery() (time.Duration, error) {
	begin := time.Now()
	for n, r := range v.fetch(context.Background(), v.all) {
		if r.Err != nil || len(r.Rows) != 1 {
			return 0, fmt.Errorf("%d rows for viewer %d: %w", len(r.Rows), n, r.Err)
		}
	}
	return time.Since(begin), nil
}

// change writes the row before it announces the key.
func (v *viewers) change(key int) error {
	row := v.table.Get(key)
	if _, err := v.pool.Exec(context.Background(), updateItem, row.Key, row.Revision, row.At); err != nil {
		return err
	}
	return v.entitySync.change(key)
}
