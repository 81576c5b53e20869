package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/shared"
)

func track(t testing.TB, d *pgtest.Database, table string, entity shared.EntityType, columns ...string) {
	t.Helper()
	if err := outbox.Track(context.Background(), d.Connect(t), table, entity, columns...); err != nil {
		t.Fatal(err)
	}
}

// announced runs statements and returns the ids that they leave in the outbox.
func announced(t testing.TB, d *pgtest.Database, sql string, args ...any) []string {
	t.Helper()
	d.Exec(t, "delete from entity_sync_outbox")
	d.Exec(t, sql, args...)
	var ids []string
	for _, row := range waiting(t, d) {
		ids = append(ids, strings.TrimPrefix(row, "items "))
	}
	return ids
}

func TestWhatATrackedTableAnnounces(t *testing.T) {
	t.Parallel()
	d := newOutbox(t, "create table items (id int primary key, name text)", "create table source (id int, name text)",
		"insert into source values (1, 'x'), (20, 'y'), (30, 'z')")
	track(t, d, "items", "items", "id")
	for _, step := range []struct {
		sql  string
		want string // the ids, with blanks between
	}{
		{"insert into items select i, 'a' from generate_series(1, 5) i", "1 2 3 4 5"},
		{"update items set name = 'b' where id < 3", "1 2"},
		{"update items set name = 'b' where id = 99", ""},
		{"update items set id = id + 10 where id > 3", "14 15 4 5"}, // from and to
		{"update items set id = id + 1 where id = 15", "15 16"},
		{"insert into items values (1, 'c'), (6, 'c') on conflict (id) do update set name = excluded.name", "1 6"},
		{"insert into items values (1, 'c'), (7, 'c') on conflict do nothing", "7"},
		{"merge into items using source using_s on items.id = using_s.id when matched and using_s.id = 1 then delete " +
			"when not matched then insert values (using_s.id, using_s.name)", "1 20 30"},
		{"with gone as (delete from items where id = 20 returning *) insert into items select 21, name from gone", "20 21"},
		{"delete from items where id >= 14", "14 16 21 30"},
		{"do $$ begin update items set name = 'd' where id = 2; raise exception 'no'; exception when others then null; end $$", ""},
		{"truncate items", "2 3 6 7"},
		{"truncate items", ""},
	} {
		if got := strings.Join(announced(t, d, step.sql), " "); got != step.want {
			t.Errorf("%s\nannounced %q, want %q", step.sql, got, step.want)
		}
	}
	if _, err := d.Connect(t).CopyFrom(t.Context(), pgx.Identifier{"items"}, []string{"id"}, pgx.CopyFromRows([][]any{{50}, {51}})); err != nil {
		t.Fatal(err)
	}
	expectWaiting(t, d, "items 50", "items 51")
}

// One row for each distinct key, however many rows of the table there are.
func TestOneRowForEachDistinctKeyOfAStatement(t *testing.T) {
	t.Parallel()
	d := newOutbox(t, "create table lines (entry int, item text)")
	track(t, d, "lines", "items", "item")
	got := announced(t, d, "insert into lines select i, 'item' || i % 3 from generate_series(1, 3000) i")
	if want := []string{"item0", "item1", "item2"}; !slices.Equal(got, want) {
		t.Errorf("announced %q, want %q", got, want)
	}
	got = announced(t, d, "update lines set entry = entry + 1")
	if want := []string{"item0", "item1", "item2"}; !slices.Equal(got, want) {
		t.Errorf("announced %q, want %q", got, want)
	}
}

func TestTrackingAPartitionedTable(t *testing.T) {
	t.Parallel()
	d := newOutbox(t, "create table items (id int, part int) partition by list (part)",
		"create table items1 partition of items for values in (1)", "create table items2 partition of items for values in (2)")
	track(t, d, "items", "items", "id")
	for _, step := range [][2]string{
		{"insert into items values (1, 1), (2, 2)", "1 2"},
		{"update items set part = 2 where id = 1", "1"}, // to another partition
		{"update items set id = 3, part = 1 where id = 1", "1 3"},
		{"insert into items1 values (4, 1)", ""}, // as documented
		{"delete from items", "2 3 4"},
		{"insert into items values (1, 1), (2, 2)", "1 2"},
		{"truncate items", "1 2"},
	} {
		if got := strings.Join(announced(t, d, step[0]), " "); got != step[1] {
			t.Errorf("%s\nannounced %q, want %q", step[0], got, step[1])
		}
	}
	track(t, d, "items1", "items", "id")
	if got := strings.Join(announced(t, d, "insert into items1 values (4, 1)"), " "); got != "4" {
		t.Errorf("a write that names a partition which is tracked announced %q", got)
	}
	if got := strings.Join(announced(t, d, "insert into items values (5, 1)"), " "); got != "5" {
		t.Errorf("a write to the whole of a table whose partition is tracked too announced %q", got)
	}
}

func TestTrackingFollowsForeignKeysAndInheritance(t *testing.T) {
	t.Parallel()
	d := newOutbox(t, "create table orders (id int primary key)",
		"create table lines (id int, order_id int references orders on update cascade on delete cascade)",
		"create table old_orders () inherits (orders)",
		"insert into orders values (1), (2), (3)", "insert into lines values (10, 1), (11, 1), (12, 2), (13, 3)", "insert into old_orders values (9)")
	track(t, d, "lines", "items", "id")
	for _, step := range [][2]string{
		{"update orders set id = 7 where id = 3", "13"},
		{"delete from orders where id < 3", "10 11 12"},
		{"truncate orders cascade", "13"},
	} {
		if got := strings.Join(announced(t, d, step[0]), " "); got != step[1] {
			t.Errorf("%s\nannounced %q, want %q", step[0], got, step[1])
		}
	}
	track(t, d, "orders", "items", "id")
	d.Exec(t, "insert into old_orders values (9)")
	if got := strings.Join(announced(t, d, "delete from orders"), " "); got != "9" {
		t.Errorf("deleting a child's rows through its parent announced %q", got)
	}
}

func TestTrackingAgainChangesNothingAndTakesNoLock(t *testing.T) {
	t.Parallel()
	d := newOutbox(t, "create table items (id int, other int)")
	track(t, d, "items", "items", "id")
	err := pgx.BeginFunc(t.Context(), d.Connect(t), func(tx pgx.Tx) error {
		// A lock that goes with nothing but reading, which takes none here.
		if _, err := tx.Exec(t.Context(), "lock table items in access exclusive mode"); err != nil {
			return err
		}
		track(t, d, "items", "items", "id")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// For another entity type as well, then with another column, then no more.
	track(t, d, "items", "others", "other")
	if got := announced(t, d, "insert into items values (1, 2)"); !slices.Equal(got, []string{"1", "others 2"}) {
		t.Errorf("announced %q", got)
	}
	track(t, d, "items", "items", "other", "id")
	if got := announced(t, d, "insert into items values (1, 2)"); !slices.Equal(got, []string{"2/1", "others 2"}) {
		t.Errorf("announced %q", got)
	}
	d.Exec(t, "alter table items disable trigger all")
	track(t, d, "items", "items", "other", "id")
	for range 2 {
		if err := outbox.Untrack(t.Context(), d.Connect(t), "items", "others"); err != nil {
			t.Fatal(err)
		}
		if got := announced(t, d, "insert into items values (1, 2)"); !slices.Equal(got, []string{"2/1"}) {
			t.Errorf("announced %q", got)
		}
	}
	if err := outbox.Untrack(t.Context(), d.Connect(t), "items", "items"); err != nil {
		t.Fatal(err)
	}
	if got := announced(t, d, "insert into items values (1, 2); truncate items"); got != nil {
		t.Errorf("announced %q", got)
	}
}

// Whatever the database's default isolation is, of many that want the same some do it
// and the others find it done.
func TestManyNodesTrackAndUntrackAtOnce(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"read committed", "repeatable read", "serializable"} {
		d := newOutbox(t, "create table items (id int)")
		d.Exec(t, fmt.Sprintf("alter database %s set default_transaction_isolation = '%s'", d.Name, level))
		pool := pgtest.Pool(t, d.URL(), 20)
		atOnce := func(what string, do func() error) {
			var nodes sync.WaitGroup
			start := make(chan struct{})
			for range 20 {
				nodes.Go(func() {
					<-start
					if err := do(); err != nil {
						t.Errorf("%s: %s: %v", level, what, err)
					}
				})
			}
			close(start)
			nodes.Wait()
		}
		ctx := t.Context()
		for range 5 {
			atOnce("Track", func() error { return outbox.Track(ctx, pool, "items", "items", "id") })
			atOnce("EnableWakeUp", func() error { return outbox.EnableWakeUp(ctx, pool) })
			if got := announced(t, d, "insert into items values (1)"); !slices.Equal(got, []string{"1"}) {
				t.Errorf("announced %q", got)
			}
			atOnce("Untrack", func() error { return outbox.Untrack(ctx, pool, "items", "items") })
			atOnce("DisableWakeUp", func() error { return outbox.DisableWakeUp(ctx, pool) })
			if got := announced(t, d, "insert into items values (1)"); got != nil {
				t.Errorf("announced %q", got)
			}
		}
		atOnce("Track and Untrack", func() error {
			return errors.Join(outbox.Track(ctx, pool, "items", "items", "id"), outbox.Untrack(ctx, pool, "items", "items"))
		})
	}
}

// TRUNCATE removes rows that a transaction above READ COMMITTED does not see. It
// announces what it can, and says so.
func TestTruncatingWhatTheTransactionCannotSee(t *testing.T) {
	t.Parallel()
	d := newOutbox(t, "create table items (id int); insert into items values (1)")
	track(t, d, "items", "items", "id")
	c, err := pgx.ParseConfig(d.URL())
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	c.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { said = append(said, n.Severity+" "+n.Message) }
	conn, err := pgx.ConnectConfig(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for level, want := range map[string][]string{"read committed": {"items 1", "items 2"}, "repeatable read": {"items 1"}, "serializable": {"items 1"}} {
		d.Exec(t, "truncate items; insert into items values (1)")
		if _, err := conn.Exec(t.Context(), "begin isolation level "+level+"; select from items"); err != nil {
			t.Fatal(err)
		}
		d.Exec(t, "insert into items values (2); delete from entity_sync_outbox")
		said = nil
		if _, err := conn.Exec(t.Context(), "truncate items; commit"); err != nil {
			t.Fatal(err)
		}
		expectWaiting(t, d, want...)
		if warned := len(said) == 1 && strings.Contains(said[0], "WARNING Entity Sync: rows of items that were written after"); warned != (len(want) == 1) {
			t.Errorf("%s: it said %q", level, said)
		}
	}
}

func TestNamesAsLongAsTheyGet(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", 70) // PostgreSQL cuts it after 63
	d := newOutbox(t, fmt.Sprintf("create table %s (%s int)", long, long))
	for _, entity := range []shared.EntityType{shared.EntityType(strings.Repeat("e", 64)), shared.EntityType(strings.Repeat("e", 63) + "f")} {
		track(t, d, long, entity, long)
		track(t, d, long, entity, long)
	}
	if got := announced(t, d, fmt.Sprintf("insert into %s values (1)", long)); len(got) != 2 {
		t.Errorf("announced %q", got)
	}
}

func TestWhatCannotBeTrackedIsAClearError(t *testing.T) {
	t.Parallel()
	d := newOutbox(t, "create table items (id int, gone int)", "alter table items drop column gone", "create view seen as select 1 as id")
	for _, bad := range []struct {
		table   string
		entity  shared.EntityType
		columns []string
		want    string
	}{
		{"nothing", "items", []string{"id"}, `relation "nothing" does not exist`},
		{"items", "items", []string{"nothing"}, "table items has no column nothing"},
		{"items", "items", []string{"gone"}, "no column gone"},
		{"items", "items", []string{"ctid"}, "no column ctid"},
		{"items", "items", []string{"items.id"}, "no column items.id"},
		{"items", "items", []string{"id); drop table items; --"}, "not a valid identifier"},
		{"items", "items", nil, "no columns"},
		{"seen", "items", []string{"id"}, "seen is not a table"},
		{"items", "a b", []string{"id"}, "bad entity type"},
		{"items; drop table items", "items", []string{"id"}, "invalid name syntax"},
	} {
		err := outbox.Track(t.Context(), d.Connect(t), bad.table, bad.entity, bad.columns...)
		if err == nil || !strings.Contains(err.Error(), bad.want) || strings.Contains(err.Error(), "EnsureSchema") {
			t.Errorf("Track of %+v: %v", bad, err)
		}
	}
	if got := announced(t, d, "insert into items values (1)"); got != nil {
		t.Errorf("announced %q", got)
	}
}

// Who writes a tracked table needs no right on the outbox, and cannot use the
// trigger to write there what he likes.
func TestWhoWritesATrackedTableNeedsNoRightOnTheOutbox(t *testing.T) {
	t.Parallel()
	d := newOutbox(t, "create table items (id int primary key)",
		"do $$ begin if to_regrole('clerk') is null then create role clerk login; end if; end $$",
		"grant select, insert, update, delete, truncate on items to clerk", "grant create on schema public to clerk")
	track(t, d, "items", "items", "id")
	clerk := newPool(t, d.URLAs("clerk"))
	for _, sql := range []string{"insert into items values (1), (2)", "update items set id = 3 where id = 2", "delete from items where id = 1", "truncate items"} {
		if _, err := clerk.Exec(t.Context(), sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	expectWaiting(t, d, "items 1", "items 1", "items 2", "items 2", "items 3", "items 3")
	if _, err := clerk.Exec(t.Context(), "create table mine (id int)"); err != nil {
		t.Fatal(err)
	}
	_, err := clerk.Exec(t.Context(), "create trigger t after insert on mine referencing new table as new_rows for each statement execute function entity_sync_announce('items', 'id')")
	if err == nil {
		t.Error("anybody can have anything announced")
	}
	if _, err := clerk.Exec(t.Context(), "insert into entity_sync_outbox (entity, id) values ('items', '1')"); err == nil {
		t.Error("anybody can write to the outbox")
	}
}

// Where policies hide rows from the owner of the trigger function too, TRUNCATE
// cannot announce them. It works all the same, and says so.
func TestTruncatingWhatTheTriggerMayNotRead(t *testing.T) {
	t.Parallel()
	d := pgtest.Shared(t).NewDatabase(t, "do $$ begin if to_regrole('landlord') is null then create role landlord login; end if; end $$",
		"grant create on schema public to landlord")
	c, err := pgx.ParseConfig(d.URLAs("landlord"))
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	c.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { said = append(said, n.Severity+" "+n.Message) }
	conn, err := pgx.ConnectConfig(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec("create table items (id int); alter table items enable row level security; alter table items force row level security")
	exec("create policy all_may_write on items for insert with check (true)")
	if err := errors.Join(outbox.EnsureSchema(t.Context(), conn), outbox.Track(t.Context(), conn, "items", "items", "id")); err != nil {
		t.Fatal(err)
	}
	exec("insert into items values (1)")
	expectWaiting(t, d, "items 1")
	said = nil
	exec("truncate items")
	expectWaiting(t, d, "items 1")
	if len(said) != 1 || !strings.Contains(said[0], "WARNING Entity Sync: the rows of items are not announced") {
		t.Errorf("it said %q", said)
	}
}

// Whoever owns a tracked table makes the types of its columns, and must not have the
// outbox's owner run what they wrote.
func TestATrackedTableRunsNothingAsTheOutboxsOwner(t *testing.T) {
	t.Parallel()
	d := newOutbox(t)
	role := d.NewRole(t, "grant create, usage on schema public to %[1]s; grant execute on function entity_sync_track, entity_sync_untrack, entity_sync_announce to %[1]s")
	pool := pgtest.Pool(t, d.URLAs(role), 1)
	for _, sql := range []string{
		"create type evil as (a text, b text)",
		"create function evil(evil) returns text language plpgsql as $$ begin raise exception 'run by %', current_user; end $$",
		"create cast (evil as text) with function evil(evil) as implicit",
		"create domain disguise as evil",
		// Nearer to how they are called than PostgreSQL's own, which take any type.
		"create function public.format(text, text) returns text language sql as $$ select evil(null) $$",
		"create function public.format(text, name) returns text language sql as $$ select evil(null) $$",
		"create function public.format(text, evil) returns text language sql as $$ select evil(null) $$",
		"create function public.num_nulls(evil) returns int language sql as $$ select length(evil(null)) $$",
		"create function public.unnest(text[]) returns setof text language sql as $$ select evil(null) $$",
		"create function public.format(text, text, text) returns text language sql as $$ select evil(null) $$",
		"create function public.concat_ws(text, text, text, text) returns text language sql as $$ select evil(null) $$",
		"create function public.above(oid, int) returns bool language sql as $$ select evil(null) = '' $$",
		"create operator public.>= (leftarg = oid, rightarg = int, function = public.above)",
		"create function public.concat_ws(text, text, text) returns text language sql as $$ select evil(null) $$",
		"create table mine (id evil, again disguise, n int)",
		"select entity_sync_track('mine', 'items', 'id', 'again', 'n')",
		"insert into mine values (row('x', null), row('y', 'z'), 1), (null, row('y', 'z'), 2)",
		"update mine set n = 3 where n = 1",
		"delete from mine where n = 2",
		"truncate mine",
	} {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	if got := waiting(t, d); !slices.Equal(got, []string{"items (x,)/(y,z)/1", "items (x,)/(y,z)/1", "items (x,)/(y,z)/3", "items (x,)/(y,z)/3"}) {
		t.Errorf("announced %q", got)
	}
}

// A table that is built anew and takes the place of another under its name has no
// triggers until it is tracked, which the same transaction can see to.
func TestATableThatIsSwappedIsTrackedAnew(t *testing.T) {
	t.Parallel()
	d := newOutbox(t, "create table items (id int primary key, name text)", "insert into items values (1, 'a')")
	track(t, d, "items", "items", "id")
	swap := func(n int, more ...string) {
		t.Helper()
		sql := fmt.Sprintf(`create table built (like items including all); insert into built select * from items;
			alter table items rename to items%d; alter table built rename to items;`, n)
		d.Exec(t, "begin; "+sql+strings.Join(more, "; ")+"; commit")
	}
	swap(1)
	if got := announced(t, d, "update items set name = 'b'"); len(got) > 0 {
		t.Errorf("a table without triggers announced %q: the docs say otherwise", got)
	}
	if got := announced(t, d, "update items1 set name = 'b'"); !slices.Equal(got, []string{"1"}) {
		t.Errorf("the table that was replaced announced %q, and has its triggers still", got)
	}
	track(t, d, "items", "items", "id")
	if got := announced(t, d, "update items set name = 'c'"); !slices.Equal(got, []string{"1"}) {
		t.Errorf("announced %q after Track, want 1", got)
	}
	swap(2, "select entity_sync_track('items', 'items', 'id')")
	if got := announced(t, d, "update items set name = 'd'"); !slices.Equal(got, []string{"1"}) {
		t.Errorf("announced %q after a swap that tracks, want 1", got)
	}
}
