package outbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/entity-sync/entity-sync/db/internal/sqlstate"
	"github.com/entity-sync/entity-sync/shared"
)

// notifySQL takes the keys as one text, so that the statement is the same for every driver.
const notifySQL = `insert into entity_sync_outbox (entity, id)
	select entity, id from json_to_recordset($1::text::json) as keys (entity text, id text)`

// NotifyTx makes a node announce keys once tx has committed, and not at all if tx is rolled
// back. It writes the keys to the outbox, in one statement, and the Relay of any node
// announces them. A key that is named several times is announced once.
//
// A malformed key is an error wrapping shared.ErrBadKey, before anything is written. After an
// error of the database the transaction can only be rolled back. If the error says that the
// server is read only, as after a failover, NotifyTx closes the connection, so that a pool
// does not hand it out again.
func NotifyTx(ctx context.Context, tx pgx.Tx, keys ...shared.EntityKey) error {
	return notify(tx, keys, func(encoded string) error {
		_, err := tx.Exec(ctx, notifySQL, encoded)
		sqlstate.LeaveReadOnly(ctx, tx.Conn(), err)
		return err
	})
}

// SQLTx is a *sql.Tx, or a type that wraps one.
type SQLTx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	Commit() error // excludes a *sql.DB, which would commit the keys by themselves
}

// NotifySQLTx is NotifyTx for database/sql, with any driver of PostgreSQL. If the server is
// read only, it makes the server end the connection.
func NotifySQLTx(ctx context.Context, tx SQLTx, keys ...shared.EntityKey) error {
	return notify(tx, keys, func(encoded string) error {
		_, err := tx.ExecContext(ctx, notifySQL, encoded)
		sqlstate.LeaveReadOnlySQL(ctx, tx, err)
		return err
	})
}

func notify(tx any, keys []shared.EntityKey, write func(encoded string) error) error {
	if isNil(tx) {
		return errors.New("outbox: notifying: the transaction is nil")
	}
	once := make(map[shared.EntityKey]struct{}, len(keys))
	distinct := make([]shared.EntityKey, 0, len(keys))
	for _, key := range keys {
		if err := key.Validate(); err != nil {
			return fmt.Errorf("outbox: notifying of a change of %.80q: %w", string(key.Entity), err)
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
		return fmt.Errorf("outbox: writing the keys: %w", withRemedy(err))
	}
	return nil
}
