package db

import (
	"context"
	"strconv"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/entity-sync/entity-sync/db/internal/sqlstate"
)

// idType is the type of a statement's $1.
type idType uint32 // an OID

// mayBe reports whether the text may be an id as PostgreSQL writes it. A change of 7 is
// announced as 7, so a client that asks for 007 would never hear of it. For types that mayBe
// does not know it returns true: only PostgreSQL can tell.
func (t idType) mayBe(id string) bool {
	switch t {
	case pgtype.Int2OID, pgtype.Int2ArrayOID:
		return isInt(id, 16)
	case pgtype.Int4OID, pgtype.Int4ArrayOID:
		return isInt(id, 32)
	case pgtype.Int8OID, pgtype.Int8ArrayOID:
		return isInt(id, 64)
	case pgtype.UUIDOID, pgtype.UUIDArrayOID:
		var u pgtype.UUID
		return u.Scan(id) == nil && u.String() == id
	default:
		return true
	}
}

func isInt(id string, bits int) bool {
	n, err := strconv.ParseInt(id, 10, bits)
	return err == nil && strconv.FormatInt(n, 10) == id
}

// isPlain reports whether mayBe decides what is an id of this type, and equal ids have equal
// texts. In an encoding other than UTF-8, text cannot be everything that a client sends.
func (t idType) isPlain(utf8 bool) bool {
	switch t {
	case pgtype.Int2OID, pgtype.Int2ArrayOID, pgtype.Int4OID, pgtype.Int4ArrayOID, pgtype.Int8OID, pgtype.Int8ArrayOID,
		pgtype.UUIDOID, pgtype.UUIDArrayOID:
		return true
	case pgtype.TextOID, pgtype.TextArrayOID, pgtype.VarcharOID, pgtype.VarcharArrayOID:
		return utf8
	default:
		return false
	}
}

// takes reports whether PostgreSQL accepts the text as the statement's $1. An error of the
// statement may also come from a faulty row, whose key must not be taken for gone; this tells
// the two apart.
func (q *Query) takes(ctx context.Context, s statement, text string) (bool, error) {
	if s.plain {
		return true, nil
	}
	conn, err := q.pool.Acquire(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Release()
	take := func(text []byte) error {
		return conn.Conn().PgConn().ExecParams(ctx, "select $1 is null", [][]byte{text}, []uint32{uint32(s.id)}, nil, nil).Read().Err
	}
	if err = take([]byte(text)); sqlstate.MayBeOfID(err) {
		err = take(nil) // fails if the type is gone, in which case the id is not to blame
		return false, err
	}
	return err == nil, err
}
