package db

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/entity-sync/entity-sync/db/internal/sqlstate"
)

// ErrBadPool is returned where a pool can never work as it is configured: its database
// does not exist, its role is not let in, or a pooler in front of the database does not
// carry what pgx sends. The error says what to change.
var ErrBadPool = sqlstate.ErrBadPool

// refuseDescribeExec returns an error for pgx's mode that describes a statement first and
// runs it with a second message, where a pooler may have given the server connection to
// another client in between: it would run that client's statement. A server that is reached
// without a pooler is the process that it says it is.
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

// isPooled reports whether a pooler stands between the connection and the server.
func isPooled(ctx context.Context, conn *pgx.Conn) (bool, error) {
	var pid uint32
	err := conn.QueryRow(ctx, "select pg_backend_pid()").Scan(&pid)
	return err == nil && pid != conn.PgConn().PID(), err
}
