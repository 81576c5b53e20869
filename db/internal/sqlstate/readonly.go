package sqlstate

import (
	"context"
	"database/sql"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const readOnlyTransaction = "25006"

// LeaveReadOnly closes the connection where an error says that its server is read only. It
// reports whether it did. Such a server was the primary before a failover, or was connected
// to meanwhile. The pool then connects anew, to where its URL leads now, and does not keep
// the connection for as long as it may be used.
func LeaveReadOnly(ctx context.Context, conn *pgx.Conn, err error) bool {
	if conn == nil || !isReadOnly(conn.PgConn(), err) {
		return false
	}
	_ = conn.Close(ctx) // the error says why
	return true
}

// isReadOnly tells a server that is read only from a transaction that is: the server says
// whether it is a standby. A server before PostgreSQL 14 says nothing of it.
func isReadOnly(conn *pgconn.PgConn, err error) bool {
	code := Of(err)
	if code != readOnlyTransaction && code != "0A000" { // the second is that of "begin read write" on a standby
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

// Execer runs a statement. It is a *sql.Tx.
type Execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// LeaveReadOnlySQL is LeaveReadOnly for database/sql, where a transaction cannot close its
// connection. The transaction has failed, and takes nothing until it is rolled back. It
// takes nothing afterwards either where the connection stays, because the transaction alone
// is read only.
func LeaveReadOnlySQL(ctx context.Context, tx Execer, err error) {
	if Of(err) != readOnlyTransaction {
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
