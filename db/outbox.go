package db

import (
	"context"
	"database/sql"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/entity-sync/entity-sync/db/internal/sqlstate"
	"github.com/entity-sync/entity-sync/shared"
)

// OutboxSchema is the SQL that makes the outbox, for a migration of your own or for
// psql: several statements, which belong in one transaction. It goes into the
// first schema of the search path, and running it again changes nothing. It is
// made for PostgreSQL 13 and later.
//
// The owner of what it makes needs no grants. Others need
//
//   - to write with NotifyTx: insert on entity_sync_outbox;
//   - to relay: select, update and delete on it (SELECT FOR UPDATE asks for the
//     second);
//   - to install with Track: execute on the functions entity_sync_track,
//     entity_sync_untrack and entity_sync_announce, and what the database asks of
//     who makes a trigger;
//   - to write a table that is tracked: nothing.
//
//go:embed outbox.sql
var OutboxSchema string

// outboxVersion is the version of OutboxSchema, which its comment on the table ends
// with.
const outboxVersion = 3

// Beginner is a *pgx.Conn, a *pgxpool.Pool, or a pgx.Tx for what is to be part of a
// larger transaction.
type Beginner interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// installedSQL is the schema that the outbox is in, its version, and whether all functions
// are in that schema, too, and look there for what they use: they are told by its name, which
// may have changed.
const installedSQL = `
	select n.nspname, coalesce(substring(obj_description(c.oid, 'pg_class') from '\(schema (\d+)\)$')::int, 0),
		5 = (select count(*)
			from unnest(array['announce()', 'track(regclass, text, text[])', 'untrack(regclass, text)', 'trigger(text, text)', 'wake_up()']) f
			join pg_proc p on p.oid = to_regprocedure(format('%I.entity_sync_%s', n.nspname, f))
			where f in ('trigger(text, text)', 'wake_up()') or format('search_path=pg_catalog, %I, pg_temp', n.nspname) = any(p.proconfig))
	from pg_class c join pg_namespace n on n.oid = c.relnamespace
	where c.oid = to_regclass('entity_sync_outbox')`

// EnsureSchema runs OutboxSchema if the outbox is missing or of an older version, or if
// its functions are missing or were made while its schema had another name. An outbox that
// the search path leads to is mended where it is. Otherwise EnsureSchema only looks, and
// needs no rights to create anything. Any number of nodes may call it at once.
func EnsureSchema(ctx context.Context, conn Beginner) error {
	err := begin(ctx, conn, func(tx pgx.Tx) error {
		var schema string
		var version int
		var whole bool
		err := tx.QueryRow(ctx, installedSQL).Scan(&schema, &version, &whole)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			_, err = tx.Exec(ctx, OutboxSchema)
			return err
		case err != nil || version > outboxVersion || version == outboxVersion && whole:
			return err
		}
		return inSchema(ctx, tx, schema, OutboxSchema)
	})
	if err != nil {
		return fmt.Errorf("db: making the outbox: %w", sqlstate.WithPoolRemedy(err))
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

// notifySQL takes the keys as one text, so that it is the same for every driver.
const notifySQL = `insert into entity_sync_outbox (entity, id)
	select entity, id from json_to_recordset($1::text::json) as keys (entity text, id text)`

// NotifyTx has keys announced once tx has committed, and not at all if it is rolled
// back: it writes them to the outbox, in one statement, from where the Relay of any
// node takes them. A key named several times is announced once.
//
// A key that is malformed is an error wrapping shared.ErrBadKey, before anything
// is written. After an error of the database the transaction can only be rolled
// back. Where the error says that the server is read only, as after a failover, the
// connection is closed, so that a pool does not hand it out again.
func NotifyTx(ctx context.Context, tx pgx.Tx, keys ...shared.EntityKey) error {
	return notify(tx, keys, func(encoded string) error {
		_, err := tx.Exec(ctx, notifySQL, encoded)
		sqlstate.LeaveReadOnly(ctx, tx.Conn(), err)
		return err
	})
}

// SQLTx is a *sql.Tx, or what wraps one.
type SQLTx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	Commit() error // so that a *sql.DB, which would commit the keys by themselves, is none
}

// NotifySQLTx is NotifyTx for database/sql, with any driver of PostgreSQL. Where the
// server is read only, it has the server end the connection.
func NotifySQLTx(ctx context.Context, tx SQLTx, keys ...shared.EntityKey) error {
	return notify(tx, keys, func(encoded string) error {
		_, err := tx.ExecContext(ctx, notifySQL, encoded)
		sqlstate.LeaveReadOnlySQL(ctx, tx, err)
		return err
	})
}

func notify(tx any, keys []shared.EntityKey, write func(encoded string) error) error {
	if isNil(tx) {
		return errors.New("db: notifying: the transaction is nil")
	}
	once := make(map[shared.EntityKey]struct{}, len(keys))
	distinct := make([]shared.EntityKey, 0, len(keys))
	for _, key := range keys {
		if err := key.Validate(); err != nil {
			return fmt.Errorf("db: notifying of a change of %.80q: %w", string(key.Entity), err)
		}
		if _, double := once[key]; !double {
			once[key] = struct{}{}
			distinct = append(distinct, key)
		}
	}
	if len(distinct) == 0 {
		return nil
	}
	encoded, err := json.Marshal(distinct)
	if err == nil {
		err = write(string(encoded))
	}
	if err != nil {
		return fmt.Errorf("db: writing to the outbox: %w", withRemedy(err))
	}
	return nil
}

// withRemedy adds to an error of the database what can be done about it.
func withRemedy(err error) error {
	err = sqlstate.WithPoolRemedy(err)
	switch sqlstate.Of(err) {
	case sqlstate.UndefinedTable, sqlstate.UndefinedFunction:
		return fmt.Errorf("%w: db.EnsureSchema, or the SQL in db.OutboxSchema, makes the outbox, in the first schema of the search path", err)
	case sqlstate.InsufficientPrivilege:
		return fmt.Errorf("%w: db.OutboxSchema says what to grant", err)
	}
	return err
}
