package db

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/entity-sync/entity-sync/db/internal/sqlstate"
)

// ErrBadPool is returned if a pool can never work as it is configured: its database does not
// exist, its role may not log in, or a pooler in front of the database does not support what
// pgx sends. The error says what to change.
var ErrBadPool = sqlstate.ErrBadPool

// refuseDescribeExec returns an error if the pool uses pgx's mode describe_exec behind a
// pooler. That mode describes a statement first and runs it with a second message. In between
// the pooler may give the server connection to another client, and the second message would
// run that client's statement.
func refuseDescribeExec(ctx context.Context, conn *pgx.Conn) error {
	if conn.Config().DefaultQueryExecMode != pgx.QueryExecModeDescribeExec {
		return nil
	}
	pooled, err := isPooled(ctx, conn)
	if err == nil && pooled {
		err = fmt.Errorf("%w: with default_query_exec_mode=describe_exec a pooler may run another client's statement: use exec, cache_describe or simple_protocol", ErrBadPool)
	}
	return err
}

// isPooled reports whether a pooler stands between the connection and the server: without one,
// the server is the process that the connection was told.
func isPooled(ctx context.Context, conn *pgx.Conn) (bool, error) {
	var pid uint32
	err := conn.QueryRow(ctx, "select pg_backend_pid()").Scan(&pid)
	return err == nil && pid != conn.PgConn().PID(), err
}
