package outbox_test

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/shared"
)

func TestNotifyTxIsPartOfTheTransaction(t *testing.T) {
	t.Parallel()
	d := newOutbox(t)
	pool := newPool(t, d.URL())
	failure := errors.New("changed my mind")
	for commit, want := range map[bool]int{true: 2, false: 0} {
		err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			if err := outbox.NotifyTx(t.Context(), tx, itemKeys("1", `quote"s and <b>`, "1")...); err != nil {
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
	t.Parallel()
	d := newOutbox(t)
	conn := stdlib.OpenDBFromPool(newPool(t, d.URL()))
	defer conn.Close()
	for _, end := range []func(*sql.Tx) error{(*sql.Tx).Rollback, (*sql.Tx).Commit} {
		tx, err := conn.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := outbox.NotifySQLTx(t.Context(), tx, itemKeys("1", "2", "1")...); err != nil {
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
	t.Parallel()
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
		if err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error { return outbox.NotifyTx(t.Context(), tx, itemKeys(ids...)...) }); err != nil {
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
	t.Parallel()
	d := newOutbox(t)
	err := pgx.BeginFunc(t.Context(), d.Connect(t), func(tx pgx.Tx) error {
		for _, bad := range []shared.EntityKey{{}, {Entity: "items"}, {Entity: "a b", ID: "1"}, itemKey("\x00"), itemKey("\xff"), itemKey(strings.Repeat("x", 256))} {
			if err := outbox.NotifyTx(t.Context(), tx, itemKey("1"), bad); !errors.Is(err, shared.ErrBadKey) {
				t.Errorf("%q: %v, want ErrBadKey", bad, err)
			}
		}
		return outbox.NotifyTx(t.Context(), tx) // of nothing; and the transaction is as good as ever
	})
	if err != nil {
		t.Fatal(err)
	}
	expectWaiting(t, d)
}

func TestAMissingOutboxOrRightSaysWhatToDo(t *testing.T) {
	t.Parallel()
	for want, d := range map[string]*pgtest.Database{
		"outbox.EnsureSchema": pgtest.Shared(t).NewDatabase(t),
		"outbox.Schema says what to grant": newOutbox(t,
			"do $$ begin if to_regrole('powerless') is null then create role powerless login; end if; end $$"),
	} {
		conn, err := pgx.Connect(t.Context(), d.URLAs("powerless"))
		if err != nil {
			conn = d.Connect(t)
		}
		defer conn.Close(context.Background())
		err = pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error { return outbox.NotifyTx(t.Context(), tx, itemKey("1")) })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NotifyTx: %v, want an error with %q", err, want)
		}
		if err := outbox.Track(t.Context(), conn, "pg_class", "items", "oid"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Track: %v, want an error with %q", err, want)
		}
	}
}
