package db

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// leaveReadOnly closes the connection where an error says that its server is read only,
// as one is that was the primary before a failover, or that was connected to meanwhile.
// The pool then connects anew, to where its URL leads now, and does not keep the
// connection for as long as it may be used.
func leaveReadOnly(ctx context.Context, conn *pgx.Conn, err error) {
	if conn != nil && isReadOnly(conn.PgConn(), err) {
		_ = conn.Close(ctx) // the error says why
	}
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
