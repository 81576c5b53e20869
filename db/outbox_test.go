package db_test

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/shared"
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

// newOutbox returns a database of the test's own with an outbox in it.
func newOutbox(t testing.TB, statements ...string) *pgtest.Database {
	t.Helper()
	return outboxOn(t, pgtest.Shared(t), statements...)
}

func outboxOn(t testing.TB, server *pgtest.Server, statements ...string) *pgtest.Database {
	t.Helper()
	d := server.NewDatabase(t)
	if err := db.EnsureSchema(context.Background(), d.Connect(t)); err != nil {
		t.Fatal(err)
	}
	for _, sql := range statements {
		d.Exec(t, sql)
	}
	return d
}

// newPool returns a pool that is closed when the test ends.
func newPool(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := db.Open(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func itemKey(id string) shared.EntityKey { return shared.EntityKey{Entity: "items", ID: id} }

func itemKeys(ids ...string) (keys []shared.EntityKey) {
	for _, id := range ids {
		keys = append(keys, itemKey(id))
	}
	return keys
}

// waiting returns what is in the outbox, as "entity id", sorted.
func waiting(t testing.TB, d *pgtest.Database) []string {
	t.Helper()
	rows, err := d.Connect(t).Query(context.Background(), `select entity || ' ' || id from entity_sync_outbox order by 1`)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func expectWaiting(t testing.TB, d *pgtest.Database, want ...string) {
	t.Helper()
	if got := waiting(t, d); !slices.Equal(got, want) {
		t.Errorf("in the outbox: %q, want %q", got, want)
	}
}

func TestNotifyTxIsPartOfTheTransaction(t *testing.T) {
	d := newOutbox(t)
	pool := newPool(t, d.URL())
	failure := errors.New("changed my mind")
	for commit, want := range map[bool]int{true: 2, false: 0} {
		err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			if err := db.NotifyTx(t.Context(), tx, itemKeys("1", `quote"s and <b>`, "1")...); err != nil {
				return err
			}
			if n := len(waiting(t, d)); n != 0 {
				t.Errorf("%d rows are there before the commit", n)
			}
			if !commit {
				return failure
			}
			return nil
		})
		if err != nil && !errors.Is(err, failure) {
			t.Fatal(err)
		}
		if got := waiting(t, d); len(got) != want {
			t.Errorf("after a transaction with commit=%v: %q", commit, got)
		}
		d.Exec(t, "delete from entity_sync_outbox")
	}
}

func TestNotifySQLTx(t *testing.T) {
	d := newOutbox(t)
	conn := stdlib.OpenDBFromPool(newPool(t, d.URL()))
	defer conn.Close()
	for _, end := range []func(*sql.Tx) error{(*sql.Tx).Rollback, (*sql.Tx).Commit} {
		tx, err := conn.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.NotifySQLTx(t.Context(), tx, itemKeys("1", "2", "1")...); err != nil {
			t.Fatal(err)
		}
		if err := end(tx); err != nil {
			t.Fatal(err)
		}
	}
	expectWaiting(t, d, "items 1", "items 2")
}

// Nothing that a key may hold is changed on the way, also without prepared
// statements, as behind some proxies.
func TestKeysAreWrittenAsTheyAre(t *testing.T) {
	d := newOutbox(t)
	ids := []string{`a"b\c`, "<&>", "ünï\u2028", "'); drop table entity_sync_outbox; --", `\u0041`, strings.Repeat("x", shared.MaxIDBytes)}
	want := make([]string, len(ids))
	for i, id := range ids {
		want[i] = "items " + id
	}
	slices.Sort(want)
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		c, err := pgx.ParseConfig(d.URL())
		if err != nil {
			t.Fatal(err)
		}
		c.DefaultQueryExecMode = mode
		conn, err := pgx.ConnectConfig(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		if err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error { return db.NotifyTx(t.Context(), tx, itemKeys(ids...)...) }); err != nil {
			t.Fatalf("%v: %v", mode, err)
		}
		got := waiting(t, d)
		slices.Sort(got) // by bytes
		if !slices.Equal(got, want) {
			t.Errorf("%v: %q, want %q", mode, got, want)
		}
		d.Exec(t, "delete from entity_sync_outbox")
	}
}

func TestABadKeyIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	d := newOutbox(t)
	err := pgx.BeginFunc(t.Context(), d.Connect(t), func(tx pgx.Tx) error {
		for _, bad := range []shared.EntityKey{{}, {Entity: "items"}, {Entity: "a b", ID: "1"}, itemKey("\x00"), itemKey("\xff"), itemKey(strings.Repeat("x", 256))} {
			if err := db.NotifyTx(t.Context(), tx, itemKey("1"), bad); !errors.Is(err, shared.ErrBadKey) {
				t.Errorf("%q: %v, want ErrBadKey", bad, err)
			}
		}
		return db.NotifyTx(t.Context(), tx) // of nothing; and the transaction is as good as ever
	})
	if err != nil {
		t.Fatal(err)
	}
	expectWaiting(t, d)
}

func TestAMissingOutboxOrRightSaysWhatToDo(t *testing.T) {
	for want, d := range map[string]*pgtest.Database{
		"db.EnsureSchema": pgtest.Shared(t).NewDatabase(t),
		"db.OutboxSchema says what to grant": newOutbox(t,
			"do $$ begin if to_regrole('powerless') is null then create role powerless login; end if; end $$"),
	} {
		conn, err := pgx.Connect(t.Context(), d.URLAs("powerless"))
		if err != nil {
			conn = d.Connect(t)
		}
		defer conn.Close(context.Background())
		err = pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error { return db.NotifyTx(t.Context(), tx, itemKey("1")) })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NotifyTx: %v, want an error with %q", err, want)
		}
		if err := db.Track(t.Context(), conn, "pg_class", "items", "oid"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Track: %v, want an error with %q", err, want)
		}
	}
}

func TestManyNodesMakeTheSchemaAtOnce(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t)
	var nodes sync.WaitGroup
	for range 20 {
		conn := d.Connect(t)
		nodes.Go(func() {
			if err := db.EnsureSchema(t.Context(), conn); err != nil {
				t.Error(err)
			}
		})
	}
	nodes.Wait()
	expectWaiting(t, d)
}

func TestTheSchemaIsLeftAloneWhereItIsThere(t *testing.T) {
	d := newOutbox(t, "do $$ begin if to_regrole('app') is null then create role app login; end if; end $$", "grant insert on entity_sync_outbox to app")
	d.Exec(t, "insert into entity_sync_outbox (entity, id) values ('items', '1')")
	app := newPool(t, d.URLAs("app"))
	// Somebody who may create nothing, while somebody else holds the table.
	err := pgx.BeginFunc(t.Context(), d.Connect(t), func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), "lock table entity_sync_outbox in row exclusive mode"); err != nil {
			return err
		}
		return db.EnsureSchema(t.Context(), app)
	})
	if err != nil {
		t.Error(err)
	}
	d.Exec(t, db.OutboxSchema) // as a migration that is run again
	expectWaiting(t, d, "items 1")
	// An older version is replaced.
	d.Exec(t, "comment on table entity_sync_outbox is 'old'; drop function entity_sync_wake_up")
	if err := db.EnsureSchema(t.Context(), d.Connect(t)); err != nil {
		t.Error(err)
	}
	if err := db.EnableWakeUp(t.Context(), d.Connect(t)); err != nil {
		t.Error(err)
	}
}

// The trigger writes to the outbox of the schema it was made in, whatever the
// search path of the writer.
func TestAnOutboxInASchemaOfItsOwn(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t, `create schema "Odd one"`, "create table items (id int)")
	conn := d.Connect(t)
	if _, err := conn.Exec(t.Context(), `set search_path = "Odd one", public`); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.EnsureSchema(t.Context(), conn), db.Track(t.Context(), conn, "items", "items", "id")); err != nil {
		t.Fatal(err)
	}
	d.Exec(t, "insert into items values (1)")
	var id string
	if err := conn.QueryRow(t.Context(), `select id from "Odd one".entity_sync_outbox`).Scan(&id); err != nil || id != "1" {
		t.Errorf("%q, %v", id, err)
	}
}
