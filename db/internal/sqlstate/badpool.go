package sqlstate

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// ErrBadPool is db.ErrBadPool.
var ErrBadPool = errors.New("bad pool")

// Some poolers give the server connection to another client after each transaction, such as
// PgBouncer with pool_mode = transaction. They keep no prepared statement for a client.
const poolerRemedy = "a pooler in front of the database, such as PgBouncer in transaction mode, does not keep prepared statements for a client: " +
	"set default_query_exec_mode=exec (or cache_describe, or simple_protocol) in the pool's URL"

// WithPoolRemedy makes an error that the pool's configuration causes wrap ErrBadPool, and adds
// what to change. It returns any other error as it is.
func WithPoolRemedy(err error) error {
	if remedy := PoolRemedy(err); remedy != "" && !errors.Is(err, ErrBadPool) {
		return fmt.Errorf("%w: %w: %s", ErrBadPool, err, remedy)
	}
	return err
}

// PoolRemedy returns what to change in the pool's configuration before the same may work. It
// is empty for an error that may pass by itself, and for an error of the statement.
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

// connectRemedy is PoolRemedy for the error of a server that refuses a connection.
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
	case "08P01": // protocol_violation; PgBouncer uses it for errors of the server, among others
		switch {
		case strings.Contains(err.Message, "does not exist"):
			return "the database and the role are those of the pool's URL"
		case strings.Contains(err.Message, "startup parameter"):
			return "name the parameter in PgBouncer's ignore_startup_parameters (db.ParseConfig sets statement_timeout and idle_in_transaction_session_timeout)"
		}
	}
	return ""
}
