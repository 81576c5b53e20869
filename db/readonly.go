package db

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// leaveReadOnly closes the connection where an error says that its server is read only,
// as one is that was the primary before a failover, or that was connected to meanwhile, and
// reports whether it did. The pool then connects anew, to where its URL leads now, and does
// not keep the connection for as long as it may be used.
func leaveReadOnly(ctx context.Context, conn *pgx.Conn, err error) bool {
	if conn == nil || !isReadOnly(conn.PgConn(), err) {
		return false
	}
	_ = conn.Close(ctx) // the error says why
	return true
}

// isReadOnly tells what a server cannot do from what a transaction cannot: the server
// says whether it is a standby, and one before PostgreSQL 14 says nothing of it.
func isReadOnly(conn *pgconn.PgConn, err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	// The second is that of "begin read write" on a standby.
	if !ok || pgErr.Code != "25006" && pgErr.Code != "0A000" {
		return false
	}
	return conn.ParameterStatus("in_hot_standby") != "off" || conn.ParameterStatus("default_transaction_read_only") != "off"
}

// leaveTimeout bounds what leaving a server that is read only takes.
const leaveTimeout = time.Second

// leaveSQL has a server that is read only end the connection.
const leaveSQL = `select pg_terminate_backend(pg_backend_pid())
	where pg_is_in_recovery() or current_setting('default_transaction_read_only')::bool`

// failSQL makes a transaction that takes nothing until it is rolled back.
const failSQL = `do $$ begin raise read_only_sql_transaction using message = 'the transaction has failed, because it is read only'; end $$`

// leaveReadOnlySQL is leaveReadOnly for database/sql, where a transaction cannot close its
// connection. The transaction has failed, and takes nothing until it is rolled back: also
// afterwards, where the server stays because it was the transaction alone that is read only.
func leaveReadOnlySQL(ctx context.Context, tx SQLTx, err error) {
	var database interface{ SQLState() string }
	if !errors.As(err, &database) || database.SQLState() != "25006" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	if _, err := tx.ExecContext(ctx, "rollback"); err == nil {
		if _, err = tx.ExecContext(ctx, leaveSQL); err == nil { // otherwise the driver has noticed
			_, _ = tx.ExecContext(ctx, "begin")
			_, _ = tx.ExecContext(ctx, failSQL)
		}
	}
}
