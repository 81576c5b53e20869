package outbox_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/internal/pgtest"
)

func TestManyNodesMakeTheSchemaAtOnce(t *testing.T) {
	t.Parallel()
	d := pgtest.Shared(t).NewDatabase(t)
	var nodes sync.WaitGroup
	for range 20 {
		conn := d.Connect(t)
		nodes.Go(func() {
			if err := outbox.EnsureSchema(t.Context(), conn); err != nil {
				t.Error(err)
			}
		})
	}
	nodes.Wait()
	expectWaiting(t, d)
}

func TestTheSchemaIsLeftAloneWhereItIsThere(t *testing.T) {
	t.Parallel()
	d := newOutbox(t, "do $$ begin if to_regrole('app') is null then create role app login; end if; end $$", "grant insert on entity_sync_outbox to app")
	d.Exec(t, "insert into entity_sync_outbox (entity, id) values ('items', '1')")
	app := newPool(t, d.URLAs("app"))
	// Somebody who may create nothing, while somebody else holds the table.
	err := pgx.BeginFunc(t.Context(), d.Connect(t), func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), "lock table entity_sync_outbox in row exclusive mode"); err != nil {
			return err
		}
		return outbox.EnsureSchema(t.Context(), app)
	})
	if err != nil {
		t.Error(err)
	}
	d.Exec(t, outbox.Schema) // as a migration that is run again
	expectWaiting(t, d, "items 1")
	// An older version is replaced.
	d.Exec(t, "comment on table entity_sync_outbox is 'old'; drop function entity_sync_wake_up")
	if err := outbox.EnsureSchema(t.Context(), d.Connect(t)); err != nil {
		t.Error(err)
	}
	if err := outbox.EnableWakeUp(t.Context(), d.Connect(t)); err != nil {
		t.Error(err)
	}
}

// The trigger writes to the outbox of the schema it was made in, whatever the
// search path of the writer.
func TestAnOutboxInASchemaOfItsOwn(t *testing.T) {
	t.Parallel()
	d := pgtest.Shared(t).NewDatabase(t, `create schema "Odd one"`, "create table items (id int)")
	conn := d.Connect(t)
	if _, err := conn.Exec(t.Context(), `set search_path = "Odd one", public`); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(outbox.EnsureSchema(t.Context(), conn), outbox.Track(t.Context(), conn, "items", "items", "id")); err != nil {
		t.Fatal(err)
	}
	d.Exec(t, "insert into items values (1)")
	var id string
	if err := conn.QueryRow(t.Context(), `select id from "Odd one".entity_sync_outbox`).Scan(&id); err != nil || id != "1" {
		t.Errorf("%q, %v", id, err)
	}
}

// What was done to an outbox that was whole, EnsureSchema mends, where the outbox is and
// with what is in it: writes to tracked tables work again, and are announced.
func TestEnsureSchemaMendsAnOutboxThatIsNotWhole(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ done, path string }{
		"its schema was renamed":        {"alter schema outbox rename to renamed", "renamed"},
		"to a name that needs quotes":   {`alter schema outbox rename to "Odd Name"`, `"Odd Name"`},
		"it is not the first schema":    {"alter schema outbox rename to renamed", "public, renamed"},
		"a function was dropped":        {"drop function outbox.entity_sync_trigger; drop function outbox.entity_sync_wake_up", "outbox"},
		"a function has no search path": {"alter function outbox.entity_sync_announce() reset search_path", "public, outbox"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := pgtest.Shared(t).NewDatabase(t, "create schema outbox; set search_path = outbox;"+outbox.Schema,
				"create table public.items (id int primary key)",
				"set search_path = outbox, public; select entity_sync_track('items', 'items', 'id')",
				"insert into outbox.entity_sync_outbox (entity, id) values ('items', '1')", c.done)
			d.Exec(t, fmt.Sprintf("alter database %s set search_path = %s", d.Name, c.path))
			conn := d.Connect(t)
			err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
				if err := outbox.EnsureSchema(t.Context(), tx); err != nil {
					return err
				}
				var path string
				if err := tx.QueryRow(t.Context(), "show search_path").Scan(&path); err != nil || path != c.path {
					t.Errorf("the transaction's search path is now %q, %v, want %q", path, err, c.path)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := outbox.Track(t.Context(), conn, "public.items", "items", "id"); err != nil {
				t.Error(err)
			}
			if _, err := conn.Exec(t.Context(), "insert into public.items values (2)"); err != nil {
				t.Errorf("writing the table: %v", err)
			}
			var outboxes, rows int
			err = conn.QueryRow(t.Context(), "select count(*), (select count(*) from entity_sync_outbox) from pg_class where relname = 'entity_sync_outbox'").Scan(&outboxes, &rows)
			if err != nil || outboxes != 1 || rows != 2 {
				t.Errorf("there are %d outboxes, with %d rows, %v, want one with two", outboxes, rows, err)
			}
		})
	}
}

// What is whole needs no rights but to look, and what a newer version made is left.
func TestEnsureSchemaLeavesWhatIsWholeOrNewer(t *testing.T) {
	t.Parallel()
	d := pgtest.Shared(t).NewDatabase(t, outbox.Schema)
	role := d.NewRole(t, "grant usage on schema public to %s")
	pool := pgtest.Pool(t, d.URLAs(role), 1)
	if err := outbox.EnsureSchema(t.Context(), pool); err != nil {
		t.Errorf("by a role that may only look: %v", err)
	}
	d.Exec(t, "drop function entity_sync_trigger")
	if err := outbox.EnsureSchema(t.Context(), pool); err == nil {
		t.Error("a function is missing, and a role that may make none mended it")
	}
	d.Exec(t, "comment on table entity_sync_outbox is 'Entity Sync: keys to announce (schema 99)'")
	if err := outbox.EnsureSchema(t.Context(), pool); err != nil {
		t.Errorf("of a newer version: %v", err)
	}
}
