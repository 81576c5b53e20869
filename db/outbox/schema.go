package outbox

import (
	"context"
	_ "embed"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/entity-sync/entity-sync/db/internal/sqlstate"
)

// Schema is the SQL that makes the outbox, for a migration of your own or for
// psql: several statements, which belong in one transaction. It goes into the
// first schema of the search path, and running it again changes nothing. It is
// made for PostgreSQL 13 and later.
//
// The owner of the outbox needs no grants. Other roles need
//
//   - to write with NotifyTx: insert on entity_sync_outbox;
//   - to write with PublishTx: insert on entity_sync_outbox_events;
//   - to relay keys: select, update and delete on entity_sync_outbox (SELECT FOR
//     UPDATE asks for the second);
//   - to relay events: select and delete on entity_sync_outbox_events, which roles
//     that relay keys are granted when that table is made;
//   - to install with Track: execute on the functions entity_sync_track,
//     entity_sync_untrack and entity_sync_announce, and the rights that PostgreSQL
//     requires for making a trigger;
//   - to write a table that is tracked: nothing.
//
//go:embed outbox.sql
var Schema string

// schemaVersion is the version of Schema, which its comment on the table ends
// with.
const schemaVersion = 4

// installedSQL reads the schema that the outbox is in, its version, and whether all functions
// are in that schema, too, and look there for what they use, and the table of events is. The
// functions find what they use by the schema's name, which may have changed.
const installedSQL = `
	select n.nspname, coalesce(substring(obj_description(c.oid, 'pg_class') from '\(schema (\d+)\)$')::int, 0),
		5 = (select count(*)
			from unnest(array['announce()', 'track(regclass, text, text[])', 'untrack(regclass, text)', 'trigger(text, text)', 'wake_up()']) f
			join pg_proc p on p.oid = to_regprocedure(format('%I.entity_sync_%s', n.nspname, f))
			where f in ('trigger(text, text)', 'wake_up()') or format('search_path=pg_catalog, %I, pg_temp', n.nspname) = any(p.proconfig))
		and to_regclass(format('%I.entity_sync_outbox_events', n.nspname)) is not null
	from pg_class c join pg_namespace n on n.oid = c.relnamespace
	where c.oid = to_regclass('entity_sync_outbox')`

// EnsureSchema runs Schema if the outbox is missing or of an older version, or if its
// functions are missing or were made while its schema had another name. An outbox that the
// search path leads to is mended in place. If there is nothing to mend, EnsureSchema only
// reads, and needs no rights to create anything. Any number of nodes may call it at once.
func EnsureSchema(ctx context.Context, conn Beginner) error {
	err := begin(ctx, conn, func(tx pgx.Tx) error {
		var schema string
		var version int
		var whole bool
		err := tx.QueryRow(ctx, installedSQL).Scan(&schema, &version, &whole)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			_, err = tx.Exec(ctx, Schema)
			return err
		case err != nil || version > schemaVersion || version == schemaVersion && whole:
			return err
		}
		return inSchema(ctx, tx, schema, Schema)
	})
	if err != nil {
		return fmt.Errorf("outbox: making the schema: %w", sqlstate.WithPoolRemedy(err))
	}
	return nil
}

// inSchema runs statements with the schema as the search path.
func inSchema(ctx context.Context, tx pgx.Tx, schema, statements string) error {
	const set = "select set_config('search_path', $1, true)"
	var path string
	err := tx.QueryRow(ctx, "select current_setting('search_path')").Scan(&path)
	if err == nil {
		_, err = tx.Exec(ctx, set, pgx.Identifier{schema}.Sanitize())
	}
	if err == nil {
		_, err = tx.Exec(ctx, statements)
	}
	if err == nil {
		_, err = tx.Exec(ctx, set, path)
	}
	return err
}
