package db

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// isMistake reports whether the database would say the same again. Class 42 is
// "syntax error or access rule violation": there is no such table, or no right to
// read it.
func isMistake(err *pgconn.PgError) bool {
	return strings.HasPrefix(err.Code, "42") && !isOfSession(err)
}

// isDataException reports whether PostgreSQL could not take a text for what it
// should be: an id, or something in a row.
func isDataException(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	// Class 22 is "data exception", 23514 what the check of a domain says.
	return ok && (strings.HasPrefix(pgErr.Code, "22") || pgErr.Code == "23514")
}

// mayBeOfID reports whether a text that is no id may be why PostgreSQL refused a statement.
// Some types call that a mistake, such as one whose values hold the names of roles.
func mayBeOfID(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (isDataException(err) || isMistake(pgErr))
}

// mayBeOfOneRow reports whether one of the rows that a statement read may be why
// PostgreSQL refused the statement, so that it would read the others. What the classes
// below say is of the connection, the transaction or the server. A statement that took
// too long, 57014, may have done so for one row.
func mayBeOfOneRow(err error) bool {
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
