package db_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/shared"
)

func idOf(id string) shared.EntityKey { return shared.EntityKey{Entity: "items", ID: id} }

// texts is rows, or the error in their place.
func texts(rows [][]byte, err error) []string {
	if err != nil {
		return []string{err.Error()}
	}
	var s []string
	for _, row := range rows {
		s = append(s, string(row))
	}
	return s
}

func want(t *testing.T, what string, rows [][]byte, err error, want ...string) {
	t.Helper()
	if got := texts(rows, err); !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

var notFound = shared.ErrNotFound.Error()

func TestRows(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t, `
		create table items (id bigint primary key, "Full Name" text, price numeric(10,2), tags text[], at timestamptz, r int);
		insert into items values (7, 'A "pot"', 12.50, '{a,b}', '2026-01-02 03:04:05+00', null)`)
	pool := pgtest.Pool(t, d.URL(), 2)
	q := db.Rows(pool, `
		with found as (select * from items where id = $1)
		select * from found; -- all of it
	`)
	if err := q.Check(t.Context()); err == nil || !errors.Is(err, db.ErrBadQuery) {
		t.Errorf("two statements in one were taken: %v", err)
	}
	q = db.Rows(pool, `
		with found as (select * from items where id = $1)
		select * from found -- all of it`)
	rows, err := q.Fetch(t.Context(), idOf("7"), "")
	want(t, "a row", rows, err, `{"id":7,"Full Name":"A \"pot\"","price":12.50,"tags":["a","b"],"at":"2026-01-02T03:04:05+00:00","r":null}`)
	for _, id := range []string{"8", "x", "7.0", "007", "+7", " 7", "99999999999999999999", "7; drop table items"} {
		rows, err := q.Fetch(t.Context(), idOf(id), "")
		want(t, id, rows, err, notFound)
	}
}

// Only PostgreSQL knows what an id of these types may be.
func TestRowsWithOtherTypesOfIDs(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t, `create type colour as enum ('red', 'green'); create domain odd as int check (value % 2 = 1);
		create domain prices as numeric[]`)
	pool := pgtest.Pool(t, d.URL(), 2)
	rows, err := db.Batch(pool, "select unnest($1::prices) as id").Fetch(t.Context(), idOf("1.5"), "")
	want(t, "of a domain of arrays", rows, err, `{"id":1.5}`)
	for _, c := range []struct{ kind, good, bad string }{
		{"uuid", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "x"},
		{"numeric", "1.5", "x"},
		{"date", "2026-01-02", "2026-13-02"},
		{"colour", "red", "blue"},
		{"smallint", "5", "70000"},
		{"odd", "5", "2"},
	} {
		for name, q := range map[string]*db.Query{
			"Rows":  db.Rows(pool, fmt.Sprintf("select $1::%s as id", c.kind)),
			"Batch": db.Batch(pool, fmt.Sprintf("select unnest($1::%s[]) as id", c.kind)),
		} {
			results := q.FetchBatch(t.Context(), []shared.FetchRequest{{Key: idOf(c.bad)}, {Key: idOf(c.good)}, {Key: idOf(c.bad + "0")}})
			for i, ok := range []bool{false, true, false} {
				if r := results[i]; ok != (r.Err == nil && len(r.Rows) == 1) || !ok && !errors.Is(r.Err, shared.ErrNotFound) {
					t.Errorf("%s of the type %s: result %d is %q, %v", name, c.kind, i, r.Rows, r.Err)
				}
			}
		}
	}
}

// What fails in a row is no bad id, or a row that is there would be taken for gone,
// however much the server's message says of parameters.
func TestAFailureInARowIsNotAMissingRow(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t, `
		create table items (id text primary key, n text); insert into items values ('a', 'x');
		create function number(text) returns int language plpgsql as
			'declare n int; begin execute ''select $1::int'' into n using $1; return n; end'`)
	d.Exec(t, "alter database "+d.Name+" set log_parameter_max_length_on_error = -1")
	pool := pgtest.Pool(t, d.URL(), 2)
	for name, q := range map[string]*db.Query{
		"Rows":                   db.Rows(pool, "select id, n::int from items where id = $1"),
		"Batch":                  db.Batch(pool, "select id, n::int from items where id = any($1)"),
		"Rows with a function":   db.Rows(pool, "select id, number(n) from items where id = $1"),
		"Batch with a function ": db.Batch(pool, "select id, number(n) from items where id = any($1)"),
	} {
		if _, err := q.Fetch(t.Context(), idOf("a"), ""); err == nil || errors.Is(err, shared.ErrNotFound) {
			t.Errorf("%s returned %v", name, err)
		}
	}
}

// Any id is an id, whatever is in it, and comes back to its own key.
func TestIDsAreNotSQL(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t, `create table items (id text primary key)`)
	pool := pgtest.Pool(t, d.URL(), 2)
	one := db.Rows(pool, "select id from items where id = $1")
	all := db.Batch(pool, "select id from items where id = any($1)")
	awkward := rapid.SampledFrom([]string{"'", `"`, `\`, "{", "}", ",", "NULL", " ", "$1", "--", "é", "😀"})
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.Custom(func(rt *rapid.T) string { return strings.Join(rapid.SliceOfN(awkward, 1, 6).Draw(rt, "parts"), "") })
		ids := rapid.SliceOfNDistinct(text, 1, 8, rapid.ID[string]).Draw(rt, "ids")
		there := rapid.SliceOfNDistinct(rapid.SampledFrom(ids), 0, len(ids), rapid.ID[string]).Draw(rt, "there")
		if _, err := pool.Exec(t.Context(), "delete from items"); err != nil {
			rt.Fatal(err)
		}
		if _, err := pool.Exec(t.Context(), "insert into items select unnest($1::text[])", there); err != nil {
			rt.Fatal(err)
		}
		var requests []shared.FetchRequest
		for _, id := range ids {
			requests = append(requests, shared.FetchRequest{Key: idOf(id)})
		}
		for i, r := range all.FetchBatch(t.Context(), requests) {
			rows, err := one.Fetch(t.Context(), idOf(ids[i]), "")
			if a, b := texts(r.Rows, r.Err), texts(rows, err); !slices.Equal(a, b) {
				rt.Errorf("%q: %q in a batch, %q alone", ids[i], a, b)
			}
			if found := err == nil; found != slices.Contains(there, ids[i]) {
				rt.Errorf("%q: found %v", ids[i], found)
			}
		}
	})
}

func TestRowsOf(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t, `create table items (id int primary key, price_cents int, cost int); insert into items values (7, 250, 100)`)
	type item struct {
		ID    int `json:"id"`
		Price int `json:"price" db:"price_cents"`
		Cost  int `json:"-"`
	}
	q := db.RowsOf[item](pgtest.Pool(t, d.URL(), 1), "select id, price_cents, cost from items where id = $1")
	rows, err := q.Fetch(t.Context(), idOf("7"), "")
	want(t, "a row", rows, err, `{"id":7,"price":250}`)
	rows, err = q.Fetch(t.Context(), idOf("8"), "")
	want(t, "no row", rows, err, notFound)
}

// Two tables always change together, and several statements always see them so.
func TestSeveralStatementsSeeOneSnapshot(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t, `
		create table reports (id int primary key, n int); insert into reports values (1, 0);
		create table authors (report int primary key, n int); insert into authors values (1, 0);`)
	writer := d.Connect(t)
	stop, stopped := make(chan struct{}), make(chan error)
	go func() {
		for {
			_, err := writer.Exec(context.Background(), "begin; update reports set n = n + 1; update authors set n = n + 1; commit")
			select {
			case <-stop:
				stopped <- err
				return
			default:
			}
		}
	}()
	q := db.Rows(pgtest.Pool(t, d.URL(), 2), "select n from reports where id = $1", "select n from authors where report = $1")
	seen := make(map[string]bool)
	for len(seen) < 100 {
		rows, err := q.Fetch(t.Context(), idOf("1"), "")
		if err != nil || len(rows) != 2 || string(rows[0]) != string(rows[1]) {
			t.Fatalf("fetched %q, %v", rows, err)
		}
		seen[string(rows[0])] = true
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if rows, err := q.Fetch(t.Context(), idOf("2"), ""); !errors.Is(err, shared.ErrNotFound) {
		t.Errorf("a key without rows: %q, %v", rows, err)
	}
}

func TestBatch(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t, `
		create table lines (item bigint, line int, text text);
		insert into lines values (1, 2, 'b'), (1, 1, 'a'), (2, 1, 'c')`)
	q := db.Batch(pgtest.Pool(t, d.URL(), 1), "select item, text from lines where item = any($1) order by line")
	var requests []shared.FetchRequest
	for _, id := range []string{"1", "3", "x", "2", "1", "02", ""} {
		requests = append(requests, shared.FetchRequest{Key: idOf(id)})
	}
	results := q.FetchBatch(t.Context(), requests)
	for i, rows := range [][]string{
		{`{"item":1,"text":"a"}`, `{"item":1,"text":"b"}`}, {notFound}, {notFound}, {`{"item":2,"text":"c"}`},
		{`{"item":1,"text":"a"}`, `{"item":1,"text":"b"}`}, {notFound}, {notFound},
	} {
		want(t, requests[i].Key.ID, results[i].Rows, results[i].Err, rows...)
	}
}

// A browser reads no number beyond 2^53 exactly: what a page takes an id from has text.
func TestLongIDsAsText(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t, "create table items (id bigint primary key); insert into items values (9007199254740993), (9223372036854775807)")
	pool := pgtest.Pool(t, d.URL(), 1)
	batch := db.Batch(pool, "select id, id::text as key from items where id = any($1)")
	single := db.Rows(pool, "select id, id::text as key from items where id = $1")
	ids := []string{"9007199254740993", "9007199254740992", "9223372036854775807"}
	rows := []string{`{"id":9007199254740993,"key":"9007199254740993"}`, notFound, `{"id":9223372036854775807,"key":"9223372036854775807"}`}
	results := batch.FetchBatch(t.Context(), []shared.FetchRequest{{Key: idOf(ids[0])}, {Key: idOf(ids[1])}, {Key: idOf(ids[2])}})
	for i, id := range ids {
		want(t, "of a batch", results[i].Rows, results[i].Err, rows[i])
		got, err := single.Fetch(t.Context(), idOf(id), "")
		want(t, "one", got, err, rows[i])
	}
	for _, q := range []interface{ Check(context.Context) error }{batch, single} {
		if err := q.Check(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// A row that the struct cannot take is its own key's trouble.
func TestBatchOf(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t, `
		create table items (id int primary key, price_cents int, cost int);
		insert into items values (1, 100, 50), (2, null, 60), (3, 300, null)`)
	type item struct {
		ID    int  `json:"id"`
		Price int  `json:"price" db:"price_cents"`
		Cost  *int `json:"cost,omitempty"`
	}
	q := db.BatchOf[item](pgtest.Pool(t, d.URL(), 1), "select id, price_cents, cost from items where id = any($1) order by id")
	results := q.FetchBatch(t.Context(), []shared.FetchRequest{{Key: idOf("1")}, {Key: idOf("2")}, {Key: idOf("3")}, {Key: idOf("4")}})
	want(t, "a row", results[0].Rows, results[0].Err, `{"id":1,"price":100,"cost":50}`)
	if err := results[1].Err; err == nil || !strings.Contains(err.Error(), "price_cents") {
		t.Errorf("NULL in an int: %v, want an error that names the column", err)
	}
	want(t, "a row with NULL", results[2].Rows, results[2].Err, `{"id":3,"price":300}`)
	want(t, "no row", results[3].Rows, results[3].Err, notFound)
}

func TestABatchWhoseFirstColumnIsNotTheID(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t, `create table items (id text primary key, name text); insert into items values ('a', 'b')`)
	q := db.Batch(pgtest.Pool(t, d.URL(), 1), "select name, id from items where id = any($1)")
	if _, err := q.Fetch(t.Context(), idOf("a"), ""); err == nil || !strings.Contains(err.Error(), "first column must be the id") {
		t.Errorf("Fetch returned %v", err)
	}
}

// The spelling of an id that is announced has the row, also in a batch with other spellings.
func TestABatchWithAnIDInAnotherSpelling(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t, `create table items (id numeric primary key); insert into items values (1.50), (2)`)
	q := db.Batch(pgtest.Pool(t, d.URL(), 1), "select id from items where id = any($1)")
	for _, ids := range [][]string{{"1.5", "2", "9"}, {"1.5", "9"}, {"1.5", "1.50", "01.500", "x", "2.00", "9"}} {
		for i, r := range q.FetchBatch(t.Context(), requestsOf(ids...)) {
			row := map[string]string{"1.5": `{"id":1.50}`, "2": `{"id":2}`}[ids[i]]
			if row == "" {
				row = notFound
			}
			want(t, fmt.Sprintf("%s of %q", ids[i], ids), r.Rows, r.Err, row)
		}
	}
}

func TestTooManyBytes(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t, `create table items (id int, text text); insert into items select 1, repeat('x', 600) from generate_series(1, 2); insert into items values (2, 'y')`)
	pool := pgtest.Pool(t, d.URL(), 1)
	for name, q := range map[string]*db.Query{
		"Rows":  db.Rows(pool, "select * from items where id = $1"),
		"Batch": db.Batch(pool, "select * from items where id = any($1)"),
	} {
		results := q.MaxBytes(1000).FetchBatch(t.Context(), []shared.FetchRequest{{Key: idOf("1")}, {Key: idOf("2")}})
		if err := results[0].Err; err == nil || !strings.Contains(err.Error(), "more than 1000 bytes") {
			t.Errorf("%s: 1,200 bytes: %v", name, err)
		}
		want(t, name, results[1].Rows, results[1].Err, `{"id":2,"text":"y"}`)
	}
	// Nobody reads what never ends, and the connection is none the worse.
	pid := backend(t, pool)
	endless := db.Rows(pool, "select $1 as id from generate_series(1, 1000) a, generate_series(1, 1000000) b, generate_series(1, 1000) c")
	begun := time.Now()
	if _, err := endless.Fetch(t.Context(), idOf("1"), ""); err == nil || !strings.Contains(err.Error(), "more than 1048576 bytes") {
		t.Errorf("a trillion rows: %v after %v", err, time.Since(begun))
	}
	if now := backend(t, pool); now != pid {
		t.Errorf("the connection was given up: the backend is %d, was %d", now, pid)
	}
}

func TestQueriesThatCannotBeRun(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t, `create type size as enum ('small'); create table items (id int primary key, name text, kind size)`)
	pool := pgtest.Pool(t, d.URL(), 1)
	for what, q := range map[string]*db.Query{
		"has 0 parameters":              db.Rows(pool, "select * from items"),
		"has 2 parameters":              db.Rows(pool, "select * from items where id = $1 and name = $2"),
		"two columns are called \"id\"": db.Rows(pool, "select a.id, b.id from items a, items b where a.id = $1"),
		"returns no columns":            db.Rows(pool, "delete from items where id = $1"),
		"there is no statement":         db.Rows(pool),
		"no_such_table":                 db.Rows(pool, "select * from no_such_table where id = $1"),
		"invalid input value":           db.Rows(pool, "select * from items where id = $1 and kind = 'smal'"),
		"syntax error":                  db.Rows(pool, "delete from items where id = $1 returning id"),
		"statement 2 of 2":              db.Rows(pool, "select * from items where id = $1", "select nothing"),
		"= any($1) is for Batch":        db.Rows(pool, "select * from items where id = any($1)"),
		"a batch wants = any($1)":       db.Batch(pool, "select id from items where id = $1"),
		"cannot be the id":              db.Batch(pool, "select name, id from items where id = any($1)"),
	} {
		err := q.Check(t.Context())
		if !errors.Is(err, db.ErrBadQuery) || !strings.Contains(err.Error(), what) {
			t.Errorf("Check returned %v, want that it %s", err, what)
		}
		if _, err := q.Fetch(t.Context(), idOf("1"), ""); !errors.Is(err, db.ErrBadQuery) {
			t.Errorf("Fetch of what %s returned %v", what, err)
		}
	}
}

// A table that is changed under a query in use is looked at again.
func TestAQueryLivesThroughAMigration(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t, `create table items (id int primary key, name text); insert into items values (1, 'a')`)
	pool := pgtest.Pool(t, d.URL(), 1)
	q := db.Batch(pool, "select * from items where id = any($1)")
	rows, err := q.Fetch(t.Context(), idOf("1"), "")
	want(t, "before", rows, err, `{"id":1,"name":"a"}`)
	for _, c := range []struct{ migration, row string }{
		{"alter table items alter id type text", `{"id":"1","name":"a"}`},
		{"alter table items alter id type int using id::int", `{"id":1,"name":"a"}`},
		{"alter table items add price int", `{"id":1,"name":"a","price":null}`},
		{"alter table items rename id to number; create view v as select 1; alter table items rename to things; create view items as select number as id, name from things", `{"id":1,"name":"a"}`},
	} {
		d.Exec(t, c.migration)
		var got []string
		for range 3 { // the first may still be refused
			rows, err := q.Fetch(t.Context(), idOf("1"), "")
			if got = texts(rows, err); err == nil {
				break
			}
		}
		if !slices.Equal(got, []string{c.row}) {
			t.Errorf("after %q: %q", c.migration, got)
		}
	}
}

// Poolers between the nodes and the server ask for modes other than pgx's default.
func TestQueriesInEveryMode(t *testing.T) {
	d, _ := newViewed(t, 1)
	d.Exec(t, `insert into items values (1, 'ann', 'it''s "{a,b}"'), (2, 'bob', 'b')`)
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		c, err := db.ParseConfig(d.URLAs("role_" + d.Name))
		if err != nil {
			t.Fatal(err)
		}
		c.MaxConns, c.ConnConfig.DefaultQueryExecMode = 1, mode
		pool, err := pgxpool.NewWithConfig(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		for name, q := range map[string]*db.Query{
			"Rows":  db.Rows(pool, "select text from items where id = $1"),
			"two":   db.Rows(pool, "select text from items where id = $1", "select text from items where id = $1 and owner = 'bob'"),
			"Batch": db.Batch(pool, "select id, text from items where id = any($1)"),
			"BatchOf": db.BatchOf[struct {
				ID   int    `json:"id"`
				Text string `json:"text"`
			}](pool, "select id, text from items where id = any($1)"),
		} {
			q = q.AsViewer(db.Setting("app.viewer"))
			for id, found := range map[string]bool{"1": true, "2": false, "x": false} {
				rows, err := q.Fetch(t.Context(), idOf(id), "ann")
				if found && (err != nil || len(rows) != 1 || !strings.Contains(string(rows[0]), `"text":"it's \"{a,b}\""`)) || !found && !errors.Is(err, shared.ErrNotFound) {
					t.Errorf("%s in the mode %v: %q of %s, %v", name, mode, rows, id, err)
				}
			}
		}
		pool.Close()
	}
}

// The rows' ids are written as the connection's settings say, the keys' as the
// trigger of Track writes them, or as a client does.
func TestABatchWithIDsThatSettingsWriteDifferently(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t)
	d.Exec(t, "alter database "+d.Name+" set timezone = 'Europe/Berlin'")
	d.Exec(t, "alter database "+d.Name+" set datestyle = 'German'")
	d.Exec(t, "alter database "+d.Name+" set bytea_output = 'escape'")
	pool := pgtest.Pool(t, d.URL(), 1)
	for kind, ids := range map[string][]string{
		"timestamptz": {"2026-01-02 03:04:05+00", "2026-07-02 01:04:05+00"},
		"date":        {"2026-01-02", "2026-02-01"},
		"bytea":       {`\x00ff`, `\x61`},
	} {
		d.Exec(t, fmt.Sprintf("drop table if exists items; create table items (id %s primary key)", kind))
		for _, id := range ids {
			d.Exec(t, fmt.Sprintf("set datestyle = 'ISO'; insert into items values ('%s')", id))
		}
		q := db.Batch(pool, "select id from items where id = any($1)")
		for i, r := range q.FetchBatch(t.Context(), []shared.FetchRequest{{Key: idOf(ids[0])}, {Key: idOf("x")}, {Key: idOf(ids[1])}}) {
			if found := r.Err == nil && len(r.Rows) == 1; found != (i != 1) || !found && !errors.Is(r.Err, shared.ErrNotFound) {
				t.Errorf("%s: result %d is %q, %v", kind, i, r.Rows, r.Err)
			}
		}
	}
}

// A database may hold its text in another encoding.
func TestADatabaseThatIsNotUTF8(t *testing.T) {
	server := pgtest.Shared(t)
	admin := server.NewDatabase(t)
	admin.Exec(t, "create database latin encoding 'LATIN1' template template0")
	t.Cleanup(func() { admin.Exec(t, "drop database latin with (force)") })
	d := &pgtest.Database{Server: server, Name: "latin"}
	d.Exec(t, "create table items (id text primary key); insert into items values (chr(233))")
	pool := pgtest.Pool(t, d.URL(), 1)
	for name, q := range map[string]*db.Query{
		"Rows":  db.Rows(pool, "select id from items where id = $1"),
		"Batch": db.Batch(pool, "select id from items where id = any($1)"),
	} {
		results := q.FetchBatch(t.Context(), []shared.FetchRequest{{Key: idOf("é")}, {Key: idOf("😀")}})
		want(t, name, results[0].Rows, results[0].Err, `{"id":"é"}`)
		want(t, name, results[1].Rows, results[1].Err, notFound)
	}
}
