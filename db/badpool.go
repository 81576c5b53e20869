package db

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrBadPool is returned where a pool can never work as it is configured: its database
// does not exist, its role is not let in, or a pooler in front of the database does not
// carry what pgx sends. The error says what to change.
var ErrBadPool = errors.New("bad pool")

// Poolers that hand a connection of theirs to another client after each transaction, as
// PgBouncer with pool_mode = transaction, keep no prepared statement for a client.
const poolerRemedy = "a pooler in front of the database, such as PgBouncer in transaction mode, does not keep prepared statements for a client: " +
	"set default_query_exec_mode=exec (or cache_describe, or simple_protocol) in the pool's URL"

// withPoolRemedy adds to an error that is of the pool what can be done about it.
func withPoolRemedy(err error) error {
	if remedy := poolRemedy(err); remedy != "" && !errors.Is(err, ErrBadPool) {
		return fmt.Errorf("%w: %w: %s", ErrBadPool, err, remedy)
	}
	return err
}

// poolRemedy returns what must be changed of the pool before the same may work; empty for
// an error that may pass by itself, or that is of the statement.
func poolRemedy(err error) string {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return ""
	}
	if _, connecting := errors.AsType[*pgconn.ConnectError](err); connecting {
		return connectRemedy(pgErr)
	}
	if isOfSession(pgErr) {
		return poolerRemedy
	}
	return ""
}

// isOfSession reports whether an error says what the server connection remembers of
// earlier statements, and nothing of this one.
func isOfSession(err *pgconn.PgError) bool {
	switch err.Code {
	case "42P05", "26000": // duplicate_prepared_statement, invalid_sql_statement_name
		return true
	case "08P01": // protocol_violation: the parameters are those of another prepared statement
		return err.Routine != "" // PgBouncer says so of all sorts of things, and names no routine
	default:
		return false
	}
}

// connectRemedy is poolRemedy for the error of a server that lets nobody in.
func connectRemedy(err *pgconn.PgError) string {
	switch err.Code {
	case "3D000": // invalid_catalog_name
		return "create the database, or name another one in the pool's URL"
	case "28P01", "28000": // invalid_password, invalid_authorization_specification
		return "the role and the password are those of the pool's URL, and pg_hba.conf says who is let in"
	case "42501": // insufficient_privilege
		return "grant the role CONNECT on the database"
	case "42704", "22023": // undefined_object, invalid_parameter_value
		return "the settings are those of the pool's URL"
	case "08P01": // protocol_violation, by which PgBouncer passes on what the server says, and more
		switch {
		case strings.Contains(err.Message, "does not exist"):
			return "the database and the role are those of the pool's URL"
		case strings.Contains(err.Message, "startup parameter"):
			return "name the parameter in PgBouncer's ignore_startup_parameters (db.ParseConfig sets statement_timeout and idle_in_transaction_session_timeout)"
		}
	}
	return ""
}

// refuseDescribeExec returns an error for pgx's mode that describes a statement first and
// runs it with a second message, where a pooler may have given the server connection to
// another client in between: it would run that client's statement. A server that is reached
// without a pooler is the process that it says it is.
func refuseDescribeExec(ctx context.Context, tx pgx.Tx) error {
	if tx.Conn().Config().DefaultQueryExecMode != pgx.QueryExecModeDescribeExec {
		return nil
	}
	pooled, err := isPooled(ctx, tx)
	if err == nil && pooled {
		err = fmt.Errorf("%w: with default_query_exec_mode=describe_exec a pooler may run another client's statement: use exec, cache_describe or simple_protocol", ErrBadPool)
	}
	return err
}

// isPooled reports whether a pooler stands between the connection and the server.
func isPooled(ctx context.Context, tx pgx.Tx) (bool, error) {
	var pid uint32
	err := tx.QueryRow(ctx, "select pg_backend_pid()").Scan(&pid)
	return err == nil && pid != tx.Conn().PgConn().PID(), err
}
