package sqlstate

import (
	"context"
	"database/sql"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const readOnlyTransaction = "25006"

// LeaveReadOnly closes the connection if an error says that its server is read only, and
// reports whether it did. Such a server was the primary before a failover, or the pool was
// connected to it meanwhile. Without LeaveReadOnly the pool would keep the connection; now it
// connects anew, to where its URL leads by then.
func LeaveReadOnly(ctx context.Context, conn *pgx.Conn, err error) bool {
	if conn == nil || !isReadOnly(conn.PgConn(), err) {
		return false
	}
	_ = conn.Close(ctx) // the error says why
	return true
}

// isReadOnly tells a read-only server from a read-only transaction: the server says whether it
// is a standby. A server before PostgreSQL 14 does not say so.
func isReadOnly(conn *pgconn.PgConn, err error) bool {
	code := Of(err)
	if code != readOnlyTransaction && code != "0A000" { // the second is that of "begin read write" on a standby
		return false
	}
	return conn.ParameterStatus("in_hot_standby") != "off" || conn.ParameterStatus("default_transaction_read_only") != "off"
}

// leaveTimeout bounds how long leaving a read-only server takes.
const leaveTimeout = time.Second

// leaveSQL makes a read-only server end the connection.
const leaveSQL = `select pg_terminate_backend(pg_backend_pid())
	where pg_is_in_recovery() or current_setting('default_transaction_read_only')::bool`

// failSQL makes the transaction fail, so that it accepts nothing until it is rolled back.
const failSQL = `do $$ begin raise read_only_sql_transaction using message = 'the transaction has failed, because it is read only'; end $$`

// Execer runs a statement. It is a *sql.Tx.
type Execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// LeaveReadOnlySQL is LeaveReadOnly for database/sql, where a transaction cannot close its
// connection. The failed transaction accepts nothing until it is rolled back. If the
// connection stays, because only the transaction is read only, LeaveReadOnlySQL makes it fail
// again.
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
