package outbox

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/jackc/pgx/v5"

	"github.com/entity-sync/entity-sync/db/internal/sqlstate"
)

// Beginner is a *pgx.Conn or a *pgxpool.Pool, or a pgx.Tx to work in a part of a larger
// transaction.
type Beginner interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// inTx runs one statement in a transaction.
func inTx(ctx context.Context, conn Beginner, what, sql string, args ...any) error {
	err := begin(ctx, conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql, args...)
		return err
	})
	if err == nil {
		return nil
	}
	if sqlstate.Of(err) != sqlstate.UndefinedTable { // here that is the application's table, not the outbox
		err = withRemedy(err)
	}
	return fmt.Errorf("outbox: %s: %w", what, err)
}

// begin calls f in a transaction of the level read committed, whatever the database's default
// is: it sees what other transactions have committed while it waited for them. If conn is a
// transaction already, its own level stays.
func begin(ctx context.Context, conn Beginner, f func(pgx.Tx) error) error {
	if isNil(conn) {
		return errors.New("the connection is nil")
	}
	each := f
	f = func(tx pgx.Tx) error {
		err := each(tx)
		sqlstate.LeaveReadOnly(ctx, tx.Conn(), err)
		return err
	}
	outermost, ok := conn.(interface {
		BeginTx(ctx context.Context, o pgx.TxOptions) (pgx.Tx, error)
	})
	if !ok {
		return pgx.BeginFunc(ctx, conn, f)
	}
	return pgx.BeginTxFunc(ctx, outermost, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, f)
}

// isNil reports whether an interface holds nothing, or a pointer that is nil.
func isNil(v any) bool {
	p := reflect.ValueOf(v)
	return v == nil || p.Kind() == reflect.Pointer && p.IsNil()
}
