package db_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/shared"
)

func requestsOf(ids ...string) (requests []shared.FetchRequest) {
	for _, id := range ids {
		requests = append(requests, shared.FetchRequest{Key: idOf(id)})
	}
	return requests
}

// Users write rows, and a row that makes the statement fail is no matter of those that
// are fetched with it, however it does so.
func TestABadRowIsAnErrorOfItsOwnKey(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t, `
		create table items (id bigint primary key, n text);
		create function strict(text) returns text language plpgsql as $$
			begin if $1 = 'bad' then raise 'no'; end if; return $1; end $$;
		create function slow(text) returns text language plpgsql as $$
			begin if $1 = 'bad' then raise 'too long' using errcode = 'query_canceled'; end if; return $1; end $$;`)
	pool := pgtest.Pool(t, d.URL(), 2)
	for name, c := range map[string]struct {
		sql       string
		good, bad string
	}{
		"a cast":                    {"select id, n::int from items where id = any($1)", "5", "five"},
		"a division":                {"select id, 1 / n::int from items where id = any($1)", "1", "0"},
		"a subquery of two rows":    {"select id, (select i from generate_series(1, n::int) i) from items where id = any($1)", "1", "2"},
		"an exception":              {"select id, strict(n) from items where id = any($1)", "good", "bad"},
		"what is no regexp":         {"select id, 'a' ~ n from items where id = any($1)", "a", "("},
		"what is no text query":     {"select id, n::tsquery from items where id = any($1)", "a & b", "a &"},
		"a name that is no table":   {"select id, n::regclass from items where id = any($1)", "items", "lost"},
		"JSON that is none":         {"select id, n::jsonb -> 'a' from items where id = any($1)", `{"a":1}`, "{"},
		"a row that takes too long": {"select id, slow(n) from items where id = any($1)", "good", "bad"},
	} {
		d.Exec(t, "truncate items")
		d.Exec(t, "insert into items values (1, $1), (2, $2), (3, $1)", c.good, c.bad)
		q := db.Batch(pool, c.sql)
		results := q.FetchBatch(t.Context(), requestsOf("1", "2", "3", "4", "x", "2"))
		for i, want := range []string{"row", "error", "row", "not found", "not found", "error"} {
			got := "error"
			switch r := results[i]; {
			case errors.Is(r.Err, shared.ErrNotFound):
				got = "not found"
			case r.Err == nil && len(r.Rows) == 1:
				got = "row"
			}
			if got != want {
				t.Errorf("%s: result %d is %s (%q, %v), want %s", name, i, got, results[i].Rows, results[i].Err, want)
			}
		}
	}
}

// Policies may fail for a row as well.
func TestABadRowIsAnErrorOfItsOwnKeyForEachViewer(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t, `
		create table items (id int primary key, owner text, number text);
		insert into items select n, 'ann', n::text from generate_series(1, 20) n;
		insert into items select n, 'bob', n::text from generate_series(21, 40) n;
		update items set number = 'none' where id in (7, 33);
		alter table items enable row level security;
		create policy own on items using (owner = current_setting('app.viewer', true) and number::int > 0)`)
	role := d.NewRole(t, "grant select on items to %s")
	q := db.Batch(pgtest.Pool(t, d.URLAs(role), 2), "select id from items where id = any($1)").AsViewer(db.Setting("app.viewer"))
	var requests []shared.FetchRequest
	for n := range 40 {
		who := map[bool]string{true: "ann", false: "bob"}[n < 20]
		requests = append(requests, shared.FetchRequest{Key: idOf(strconv.Itoa(n + 1)), Secret: shared.NewSecret(who)})
	}
	for i, r := range q.FetchBatch(t.Context(), requests) {
		if bad := i+1 == 7 || i+1 == 33; bad == (r.Err == nil) || bad && errors.Is(r.Err, shared.ErrNotFound) {
			t.Errorf("%s: %q, %v", requests[i].Key.ID, r.Rows, r.Err)
		}
	}
}

// queries counts the statements of a pool.
type queries struct{ n atomic.Int64 }

func (q *queries) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	q.n.Add(1)
	return ctx
}

func (q *queries) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// What a bad row costs the others grows with the logarithm of how many they are, and a
// table in which all are bad costs no more than that.
func TestABadRowCostsTheOthersLittle(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t, "create table items (id int primary key, n text); insert into items select n, n::text from generate_series(1, 1024) n")
	c, err := db.ParseConfig(d.URL())
	if err != nil {
		t.Fatal(err)
	}
	var asked queries
	c.ConnConfig.Tracer = &asked
	pool, err := pgxpool.NewWithConfig(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	q := db.Batch(pool, "select id, n::int from items where id = any($1)")
	if err := q.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for n := range 1024 {
		ids = append(ids, strconv.Itoa(n+1))
	}
	for _, c := range []struct {
		bad  string
		most int64
	}{{"false", 1}, {"id = 1", 21}, {"id = 700", 21}, {"true", 23}} {
		d.Exec(t, fmt.Sprintf("update items set n = case when %s then 'x' else id::text end", c.bad))
		asked.n.Store(0)
		for i, r := range q.FetchBatch(t.Context(), requestsOf(ids...)) {
			bad := c.bad == "true" || c.bad == "id = "+ids[i]
			if bad == (r.Err == nil) {
				t.Errorf("where %s is bad: %s is %q, %v", c.bad, ids[i], r.Rows, r.Err)
			}
		}
		if n := asked.n.Load(); n > c.most {
			t.Errorf("where %s is bad it took %d statements, want %d at most", c.bad, n, c.most)
		}
	}
}

// A table that is gone is not looked for id by id, and neither is a server that ends.
func TestATableThatIsGoneIsAskedForOnce(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t, "create table items (id int primary key)")
	q := db.Batch(pgtest.Pool(t, d.URL(), 1), "select id from items where id = any($1)")
	if err := q.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.Exec(t, "drop table items")
	results := q.FetchBatch(t.Context(), requestsOf("1", "2", "3"))
	for _, r := range results {
		if r.Err == nil || r.Err != results[0].Err {
			t.Errorf("the errors are %v and %v, want the same one", results[0].Err, r.Err)
		}
	}
}
