package db

import (
	"errors"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// idType is what a statement takes for an id.
type idType uint32 // an OID

// normal returns the id as PostgreSQL writes it, and false where it cannot be
// one. Of types that this function does not know, only PostgreSQL knows.
func (t idType) normal(id string) (string, bool) {
	switch t {
	case pgtype.Int2OID, pgtype.Int2ArrayOID:
		return normalInt(id, 16)
	case pgtype.Int4OID, pgtype.Int4ArrayOID:
		return normalInt(id, 32)
	case pgtype.Int8OID, pgtype.Int8ArrayOID:
		return normalInt(id, 64)
	case pgtype.UUIDOID, pgtype.UUIDArrayOID:
		var u pgtype.UUID
		if err := u.Scan(id); err != nil {
			return "", false
		}
		return u.String(), true
	default:
		return id, true
	}
}

func normalInt(id string, bits int) (string, bool) {
	n, err := strconv.ParseInt(id, 10, bits)
	return strconv.FormatInt(n, 10), err == nil
}

// isBadID reports whether PostgreSQL could not take an id for what the statement
// compares it with, rather than something in a row.
func isBadID(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	// Whatever the language of its messages, the server says which parameter it
	// could not read. Class 22 is "data exception".
	return ok && strings.HasPrefix(pgErr.Code, "22") && strings.Contains(pgErr.Where, "$1")
}
