package db_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/internal/pgtest"
)

// What can never work is refused even while there is no database, and never a crash.
func TestAQueryThatCanNeverWorkNeedsNoDatabaseToBeRefused(t *testing.T) {
	pool, err := db.Open(t.Context(), "postgres://nobody@127.0.0.1:1/nothing")
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	const item = "select id from items where id = $1"
	claims := db.Setting("app.viewer")
	for want, q := range map[string]*db.Query{
		"the pool is nil":                 db.Rows(nil, item),
		"the pool is nil ":                db.BatchOf[struct{ ID int }](nil, item),
		"there is no statement":           db.Rows(pool),
		"statement 2 of 2 is empty":       db.Rows(pool, item, ""),
		"statement 1 of 1 is empty":       db.Batch(pool, " ;\n"),
		"AsViewer got nil":                db.Rows(pool, item).AsViewer(nil),
		"a Setting whose name has a dot":  db.Rows(pool, item).AsViewer(db.Setting("viewer")),
		"AsViewer and WithoutViewer":      db.Rows(pool, item).AsViewer(claims).WithoutViewer(),
		"AsViewer and WithoutViewer excl": db.Rows(pool, item).WithoutViewer().AsViewer(claims),
		"MaxBytes is 0":                   db.Rows(pool, item).MaxBytes(0),
		"MaxBytes is -1, want 1 or more":  db.Rows(pool, item).AsViewer(claims).MaxBytes(-1),
	} {
		_, fetched := q.Fetch(t.Context(), idOf("1"), "ann")
		for what, err := range map[string]error{"Check": q.Check(t.Context()), "Fetch": fetched} {
			if !errors.Is(err, db.ErrBadQuery) || !strings.Contains(err.Error(), strings.TrimSpace(want)) {
				t.Errorf("%s returned %v, want ErrBadQuery with %q", what, err, want)
			}
		}
	}
	if err := db.Rows(pool, item).AsViewer(claims).Check(t.Context()); err == nil || errors.Is(err, db.ErrBadQuery) {
		t.Errorf("a good query without its database: %v, want an error that is no ErrBadQuery", err)
	}
}

// Policies that hold for the role need to be told who the client is, unless the query
// says that they need not; for a role that they do not hold for there is nothing to say.
func TestCheckRefusesPoliciesThatNobodyTellsWhoTheClientIs(t *testing.T) {
	d, pool := newViewed(t, 1)
	d.Exec(t, "insert into items values (1, 'ann', 'a'), (1, '', 'nobody''s'); create table plain (id int)")
	d.Exec(t, "grant select on plain to role_"+d.Name)
	d.Exec(t, "create table hidden (id int); alter table hidden enable row level security; create view shown as select id from hidden; grant select on shown to role_"+d.Name)
	item, items := "select text from items where id = $1", "select id, text from items where id = any($1)"
	for name, q := range map[string]*db.Query{
		"Rows":         db.Rows(pool, item),
		"Batch":        db.Batch(pool, items),
		"one of two":   db.Rows(pool, "select id from plain where id = $1", item),
		"beside plain": db.Rows(pool, "select text from items natural join plain where id = $1"),
		"a subquery":   db.Rows(pool, "select text from (select * from items) i where id = $1"),
	} {
		err := q.Check(t.Context())
		if !errors.Is(err, db.ErrBadQuery) || !strings.Contains(err.Error(), `policies of items apply to the role "role_`+d.Name) {
			t.Errorf("%s: Check returned %v", name, err)
		}
		if err := q.WithoutViewer().Check(t.Context()); err != nil {
			t.Errorf("%s, with WithoutViewer: %v", name, err)
		}
	}
	for what, q := range map[string]*db.Query{
		"a table without policies": db.Rows(pool, "select id from plain where id = $1"),
		"a superuser":              db.Rows(pgtest.Pool(t, d.URL(), 1), item),
		"a view's owner, who owns": db.Rows(pool, "select id from shown where id = $1"),
	} {
		if err := q.Check(t.Context()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	d.Exec(t, "create policy anybody on items using (owner = '')")
	rows, err := db.Rows(pool, item).WithoutViewer().Fetch(context.Background(), idOf("1"), "ann")
	want(t, "WithoutViewer", rows, err, `{"text":"nobody's"}`)
}

// A table whose policies show the role nothing would be one of which nobody ever gets a
// row, and no error.
func TestCheckRefusesATableThatNoPolicyShows(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t, "create table items (id int); alter table items enable row level security")
	role := d.NewRole(t, "grant select on items to %s")
	q := db.Rows(pgtest.Pool(t, d.URLAs(role), 1), "select id from items where id = $1")
	for _, c := range []struct {
		policy string
		shows  bool
	}{
		{"", false},
		{"create policy p on items for update using (true)", false},
		{"create policy p on items for insert with check (true)", false},
		{"create policy p on items as restrictive using (true)", false},
		{"create policy p on items to pg_monitor using (true)", false},
		{"create policy p on items using (false)", true}, // what it is when rows are looked at is not known
		{"create policy p on items for select to pg_monitor, " + role + " using (true)", true},
		{"create policy p on items to pg_read_all_stats using (true); grant pg_read_all_stats to " + role, true},
		{"create table parent (id int) partition by list (id); grant select on parent to " + role + "; alter table parent attach partition items default;" +
			"alter table parent enable row level security; create policy p on parent using (true)", true},
	} {
		d.Exec(t, "drop policy if exists p on items;"+c.policy)
		q := q
		if strings.Contains(c.policy, "parent") {
			q = db.Rows(q.Pool(), "select id from parent where id = $1")
		}
		for name, q := range map[string]*db.Query{"AsViewer": q.AsViewer(db.Setting("app.viewer")), "WithoutViewer": q.WithoutViewer()} {
			err := q.Check(t.Context())
			if c.shows && err != nil || !c.shows && (!errors.Is(err, db.ErrBadQuery) || !strings.Contains(err.Error(), "no policy of items ever shows a row to the role "+role)) {
				t.Errorf("%s with %q: %v", name, c.policy, err)
			}
		}
	}
}

// A table that shows the role nothing may be joined to one that does.
func TestCheckTakesAHiddenTableBesideAnother(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t, "create table items (id int); alter table items enable row level security; create policy p on items using (true);"+
		"create table secrets (item int, text text); alter table secrets enable row level security; create policy p on secrets to pg_monitor using (true)")
	role := d.NewRole(t, "grant select on items, secrets to %s")
	q := db.Rows(pgtest.Pool(t, d.URLAs(role), 1), "select id, text from items left join secrets on item = id where id = $1")
	if err := q.AsViewer(db.Setting("app.viewer")).Check(t.Context()); err != nil {
		t.Error(err)
	}
}
