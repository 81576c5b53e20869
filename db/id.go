package db

import (
	"context"
	"strconv"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/entity-sync/entity-sync/db/internal/sqlstate"
)

// idType is what a statement takes for an id.
type idType uint32 // an OID

// mayBe reports whether the text is an id as PostgreSQL writes it: a change of 7 is
// announced as 7, so who asks for 007 would never hear of it. Of types that this
// function does not know, only PostgreSQL knows.
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

// isPlain reports whether mayBe tells what can be an id, and equal ids are then the
// same text. Text of an encoding other than UTF-8 cannot be all that a client says.
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

// takes reports whether PostgreSQL takes the text for what the statement's $1 is.
// Only that tells an id that cannot be one from a row in disorder, which must not be taken
// for gone.
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
		err = take(nil) // fails where the type is gone, and with it nothing of the id's
		return false, err
	}
	return err == nil, err
}
