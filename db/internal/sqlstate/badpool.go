package sqlstate

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// ErrBadPool is db.ErrBadPool.
var ErrBadPool = errors.New("bad pool")

// Poolers that hand a connection of theirs to another client after each transaction, as
// PgBouncer with pool_mode = transaction, keep no prepared statement for a client.
const poolerRemedy = "a pooler in front of the database, such as PgBouncer in transaction mode, does not keep prepared statements for a client: " +
	"set default_query_exec_mode=exec (or cache_describe, or simple_protocol) in the pool's URL"

// WithPoolRemedy adds to an error that is of the pool what mends the pool, and has the
// error wrap ErrBadPool. It returns any other error as it is.
func WithPoolRemedy(err error) error {
	if remedy := PoolRemedy(err); remedy != "" && !errors.Is(err, ErrBadPool) {
		return fmt.Errorf("%w: %w: %s", ErrBadPool, err, remedy)
	}
	return err
}

// PoolRemedy returns what must be changed of the pool before the same may work. It is empty
// for an error that may pass by itself, and for one of the statement.
func PoolRemedy(err error) string {
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

// connectRemedy is PoolRemedy for the error of a server that refuses the connection.
func connectRemedy(err *pgconn.PgError) string {
	switch err.Code {
	case "3D000": // invalid_catalog_name
		return "create the database, or name another one in the pool's URL"
	case "28P01", "28000": // invalid_password, invalid_authorization_specification
		return "the role and the password are those of the pool's URL, and pg_hba.conf says who is let in"
	case InsufficientPrivilege:
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
