package db_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/shared"
)

// newBounced returns a database with tables of a hundred rows, one of them with policies,
// and a role that they are for.
func newBounced(t *testing.T) (d *pgtest.Database, role string) {
	t.Helper()
	d = pgtest.Shared(t).NewDatabase(t, `
		create table items (id int primary key, name text, price numeric);
		insert into items select n, 'name ' || n, n / 4.0 from generate_series(1, 100) n;
		create table notes (id int, owner text, text text, primary key (id, owner));
		insert into notes select n, owner, owner || n from generate_series(1, 100) n, unnest('{ann,bob,cid,dan}'::text[]) owner;
		alter table notes enable row level security;
		create policy own on notes using (owner = nullif(current_setting('app.viewer', true), ''))`)
	return d, d.NewRole(t, "grant select on notes to %s")
}

type priced struct {
	ID   int    `json:"id"`
	Name string `json:"called"`
}

// bouncedQueries is a query of each kind, on a pool of the owner's and one of the role's.
func bouncedQueries(owner, role *pgxpool.Pool) map[string]*db.Query {
	return map[string]*db.Query{
		"Rows":             db.Rows(owner, "select * from items where id = $1"),
		"two statements":   db.Rows(owner, "select * from items where id = $1", "select count(*) from items where id < $1"),
		"RowsOf":           db.RowsOf[priced](owner, "select id, name from items where id = $1"),
		"Batch":            db.Batch(owner, "select * from items where id = any($1)"),
		"BatchOf":          db.BatchOf[priced](owner, "select id, name from items where id = any($1)"),
		"Batch of texts":   db.Batch(owner, "select id::text as id, name from items where id::text = any($1)"),
		"Batch of numeric": db.Batch(owner, "select id::numeric as id, name from items where id::numeric = any($1)"),
		"Rows as viewer":   db.Rows(role, "select * from notes where id = $1").AsViewer(db.Setting("app.viewer")),
		"Batch as viewer":  db.Batch(role, "select * from notes where id = any($1)").AsViewer(db.Setting("app.viewer")),
	}
}

// In these of pgx's modes a PgBouncer that pools by transaction makes no difference, and
// no viewer's settings stay on its few connections.
func TestBehindPgBouncer(t *testing.T) {
	for _, mode := range []string{"exec", "cache_describe", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			d, role := newBounced(t)
			b := d.Server.StartBouncer(t, 2, role)
			owner, reader := pgtest.Pool(t, b.URL(d.URL(), mode), 8), pgtest.Pool(t, b.URL(d.URLAs(role), mode), 8)
			direct := bouncedQueries(pgtest.Pool(t, d.URL(), 2), pgtest.Pool(t, d.URLAs(role), 2))
			queries := bouncedQueries(owner, reader)

			for what, err := range map[string]error{
				"EnsureSchema": outbox.EnsureSchema(t.Context(), owner),
				"Track":        outbox.Track(t.Context(), owner, "items", "items", "id"),
			} {
				if err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
			var fetching sync.WaitGroup
			for i := range 8 {
				fetching.Go(func() {
					for n := range 10 {
						if err := sameAsDirect(t.Context(), queries, direct, i*10+n); err != nil {
							t.Error(err)
						}
						var seen int // by who says nothing, on a server connection that viewers had
						if err := reader.QueryRow(t.Context(), "select count(*) from notes").Scan(&seen); err != nil || seen > 0 {
							t.Errorf("%d rows are seen by nobody, %v", seen, err)
						}
						key := idOf(fmt.Sprintf("noted %d%d", i, n))
						if err := pgx.BeginFunc(t.Context(), owner, func(tx pgx.Tx) error { return outbox.NotifyTx(t.Context(), tx, key) }); err != nil {
							t.Error(err)
						}
					}
				})
			}
			fetching.Wait()
			if _, err := owner.Exec(t.Context(), "update items set price = 0 where id = 7"); err != nil {
				t.Error(err)
			}
			var written int
			if err := owner.QueryRow(t.Context(), "select count(distinct id) from entity_sync_outbox").Scan(&written); err != nil || written != 81 {
				t.Errorf("%d keys are in the outbox, %v, want 81", written, err)
			}
		})
	}
}

// sameAsDirect returns an error for what is another answer behind the PgBouncer.
func sameAsDirect(ctx context.Context, queries, direct map[string]*db.Query, n int) error {
	for name, q := range queries {
		var requests []shared.FetchRequest
		for i, id := range []string{fmt.Sprint(n%100 + 1), "1000", "x"} { // one that is there, none, and what cannot be one
			requests = append(requests, shared.FetchRequest{Key: idOf(id), Secret: shared.NewSecret([]string{"ann", "bob", "cid", "dan"}[(n+i)%4])})
		}
		got, want := q.FetchBatch(ctx, requests), direct[name].FetchBatch(ctx, requests)
		for i := range want {
			if !errors.Is(got[i].Err, want[i].Err) || !slices.Equal(texts(got[i].Rows, nil), texts(want[i].Rows, nil)) {
				return fmt.Errorf("%s of %q: %q, %v, want %q, %w", name, requests[i].Key.ID, got[i].Rows, got[i].Err, want[i].Rows, want[i].Err)
			}
		}
	}
	return nil
}

// The default mode of pgx cannot work there. That is nothing of the statement's, and the
// error says what to change, whatever comes upon it first.
func TestTheDefaultModeBehindPgBouncerIsABadPool(t *testing.T) {
	d, _ := newBounced(t)
	b := d.Server.StartBouncer(t, 1)
	first, second := pgtest.Pool(t, b.URL(d.URL(), ""), 1), pgtest.Pool(t, b.URL(d.URL(), ""), 1)
	const sql = "select id from items where id = $1"
	if err := db.Rows(first, sql).Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkBadPool(t, "a query of another client", db.Rows(second, sql).Check(t.Context()), "42P05", "default_query_exec_mode=exec")

	// A server connection that is new knows nothing of what a client has prepared.
	q := db.Rows(first, sql)
	if _, err := q.Fetch(t.Context(), idOf("1"), ""); err != nil {
		t.Fatal(err)
	}
	third := pgtest.Pool(t, b.URL(d.URL(), "exec"), 1)
	before := backend(t, third)
	d.Exec(t, "select pg_terminate_backend($1)", before)
	for after, end := before, time.Now().Add(time.Minute); after == before; time.Sleep(2 * time.Millisecond) {
		_ = third.QueryRow(t.Context(), "select pg_backend_pid()").Scan(&after) // may fail meanwhile
		if time.Now().After(end) {
			t.Fatal("the PgBouncer has no other connection")
		}
	}
	_, err := q.Fetch(t.Context(), idOf("1"), "")
	checkBadPool(t, "a statement that is gone", err, "26000", "default_query_exec_mode=exec")
}

// In this mode a pooler may let one client's statement be run for another.
func TestDescribeExecBehindPgBouncerIsABadPool(t *testing.T) {
	d, role := newBounced(t)
	b := d.Server.StartBouncer(t, 1, role)
	for name, q := range bouncedQueries(pgtest.Pool(t, b.URL(d.URL(), "describe_exec"), 1), pgtest.Pool(t, b.URL(d.URLAs(role), "describe_exec"), 1)) {
		checkBadPool(t, name, q.Check(t.Context()), "exec, cache_describe or simple_protocol")
	}
	for name, q := range bouncedQueries(pgtest.Pool(t, d.URL()+"&default_query_exec_mode=describe_exec", 1), pgtest.Pool(t, d.URLAs(role)+"&default_query_exec_mode=describe_exec", 1)) {
		if err := q.Check(t.Context()); err != nil {
			t.Errorf("%s without a PgBouncer: %v", name, err)
		}
	}
}

// What the pool's URL has wrong is said at once. Waiting does not mend it.
func TestWhatLetsNobodyInIsABadPool(t *testing.T) {
	d, role := newBounced(t)
	d.Exec(t, fmt.Sprintf("revoke connect on database %s from public", d.Name))
	b := d.Server.StartBouncer(t, 1, role)
	strict := d.Server.StartBouncer(t, 1, role)
	strict.IgnoresNothing(t)
	lost := (&pgtest.Database{Server: d.Server, Name: "lost"}).URL()
	for what, c := range map[string]struct{ url, says string }{
		"a database that is not there":                  {lost, "3D000"},
		"a database that is not there behind PgBouncer": {b.URL(lost, "exec"), "lost"},
		"a role that is not there":                      {d.URLAs("nobody"), "28000"},
		"a role that may not connect":                   {d.URLAs(role), "42501"},
		"a setting that is none":                        {d.URL() + "&no_such_setting=1", "42704"},
		"a value that is none":                          {d.URL() + "&work_mem=much", "22023"},
		"what PgBouncer does not know":                  {strict.URL(d.URL(), "exec"), "ignore_startup_parameters"},
	} {
		checkBadPool(t, what, db.Rows(pgtest.Pool(t, c.url, 1), "select $1::int as id").Check(t.Context()), c.says)
	}
}

// A server that is away, or takes no more for now, may be there later.
func TestWhatMayPassIsNoBadPool(t *testing.T) {
	d, _ := newBounced(t)
	gone := d.Server.StartBouncer(t, 1)
	gone.Stop()
	d.Exec(t, "create role narrow login connection limit 0")
	t.Cleanup(func() { d.Exec(t, "drop role narrow") })
	for what, url := range map[string]string{"nobody listens": gone.URL(d.URL(), "exec"), "too many connections": d.URLAs("narrow")} {
		err := db.Rows(pgtest.Pool(t, url, 1), "select $1::int as id").Check(t.Context())
		if err == nil || errors.Is(err, db.ErrBadPool) || errors.Is(err, db.ErrBadQuery) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func checkBadPool(t *testing.T, what string, err error, says ...string) {
	t.Helper()
	if !errors.Is(err, db.ErrBadPool) || errors.Is(err, db.ErrBadQuery) {
		t.Errorf("%s: %v, want an error of the pool", what, err)
		return
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%s: %v, want %q in it", what, err, s)
		}
	}
}
