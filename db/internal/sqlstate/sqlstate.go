// Package sqlstate finds out what an error of PostgreSQL is about: the statement, an id, a
// row, the server connection, the pool, or a server that has become read only. It says how to
// mend a pool, and leaves a read-only server.
package sqlstate

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// The codes that callers tell apart, by PostgreSQL's names.
const (
	UndefinedTable        = "42P01"
	UndefinedFunction     = "42883"
	InsufficientPrivilege = "42501"
)

// Of returns the SQLSTATE of an error of any driver, empty if the error is not the database's.
func Of(err error) string {
	if database, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err); ok {
		return database.SQLState()
	}
	return ""
}

// IsSyntaxOrAccess reports whether PostgreSQL would refuse the statement again. Class 42 is
// "syntax error or access rule violation": a table is missing, or the right to read it.
func IsSyntaxOrAccess(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && strings.HasPrefix(pgErr.Code, "42") && !isOfSession(pgErr)
}

// IsDataException reports whether PostgreSQL could not read a text as a value of its type: an
// id, or a value in a row.
func IsDataException(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	// Class 22 is "data exception". 23514 is the error of a domain's check.
	return ok && (strings.HasPrefix(pgErr.Code, "22") || pgErr.Code == "23514")
}

// MayBeOfID reports whether PostgreSQL may have refused a statement because a text is no id.
// Some types report such a text as class 42: one whose values hold the names of roles, for
// example.
func MayBeOfID(err error) bool { return IsDataException(err) || IsSyntaxOrAccess(err) }

// MayBeOfOneRow reports whether one of the rows may have made a statement fail, which could
// then read the other rows. The classes below are about the connection, the transaction or the
// server. A statement that took too long, 57014, may have done so because of one row.
func MayBeOfOneRow(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || len(pgErr.Code) != 5 || isOfSession(pgErr) {
		return false
	}
	switch pgErr.Code[:2] {
	case "08", "25", "26", "28", "3D", "40", "53", "55", "57", "58", "F0":
		return pgErr.Code == "57014"
	default:
		return true
	}
}

// isOfSession reports whether an error is about the prepared statements that the server
// connection keeps from earlier, and says nothing of this statement.
func isOfSession(err *pgconn.PgError) bool {
	switch err.Code {
	case "42P05", "26000": // duplicate_prepared_statement, invalid_sql_statement_name
		return true
	case "08P01": // protocol_violation: the parameters are those of another prepared statement
		return err.Routine != "" // PgBouncer uses the code for much else, and names no routine
	default:
		return false
	}
}
