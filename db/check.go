package db

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/entity-sync/entity-sync/db/internal/sqlstate"
)

// ErrBadQuery is returned for a Query whose statements can never be run as they
// are, or not by the pool's role.
var ErrBadQuery = errors.New("bad query")

// Check asks the database whether the statements can be run. It returns an error wrapping
// ErrBadQuery for a statement that is wrong or that the pool's role may not run, that does not
// take the id as its one parameter, or that has two columns of one name. It returns one, too,
// if equal ids of the parameter's type may be spelled differently, as of citext, unless the
// Query was made by Batch or BatchOf.
//
// Of a Query made by AsViewer each statement must read a table with row-level security, and
// row-level security must apply to the pool's role on each such table. It does not apply to
// superusers and roles with BYPASSRLS, to the table's owner unless it is forced, and through
// views that read with the rights of such an owner. Of any other Query it must apply on no
// table, unless WithoutViewer was called. A table of which no policy ever shows the role a row
// is refused as well. The error says how to mend it.
//
// An error wrapping ErrBadPool is not about the statements: the pool can never work as it is
// configured, for example because its database does not exist.
//
// Some mistakes are found before the database is asked: a nil pool, no statement or an empty
// one, AsViewer without a function, MaxBytes of less than 1.
//
// es.RegisterQuery calls Check. If the database could not be reached then, the first fetch
// does: nothing is fetched with statements that were not checked.
func (q *Query) Check(ctx context.Context) error {
	_, err := q.checked(ctx)
	return err
}

func (q *Query) checked(ctx context.Context) ([]statement, error) {
	q.mu.Lock()
	plan := q.plan
	q.mu.Unlock()
	if plan != nil {
		return plan, nil
	}
	plan, err := q.check(ctx)
	if err != nil {
		return nil, fmt.Errorf("db: %w", sqlstate.WithPoolRemedy(err))
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.plan = plan
	return plan, nil
}

func (q *Query) check(ctx context.Context) (plan []statement, err error) {
	if err := q.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadQuery, err)
	}
	conn, err := q.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	for i, source := range q.sources {
		err = readOnly(ctx, conn.Conn(), func() error {
			if err := refuseDescribeExec(ctx, conn.Conn()); err != nil {
				return err
			}
			s, err := q.prepare(ctx, conn.Conn(), withoutEnd(source))
			if err == nil {
				err = q.checkPolicies(ctx, conn.Conn())
			}
			plan = append(plan, s)
			return err
		})
		if err != nil {
			err = fmt.Errorf("statement %d of %d: %w", i+1, len(q.sources), err)
			break
		}
	}
	// No row has been read yet, so a data exception is about a value in the statement itself.
	if sqlstate.IsSyntaxOrAccess(err) || sqlstate.IsDataException(err) {
		err = fmt.Errorf("%w: %w", ErrBadQuery, err)
	}
	return plan, err
}

// readOnly calls f in a read-only transaction. Unlike pgx's own, it keeps the connection when
// f ends early.
func readOnly(ctx context.Context, conn *pgx.Conn, f func() error) error {
	defer endTransaction(ctx, conn)
	_, err := conn.Exec(ctx, beginSQL(1))
	if err == nil {
		err = f()
	}
	if err == nil {
		_, err = conn.Exec(ctx, "commit")
	}
	return err
}

// validate returns the errors that are found without the database.
func (d *definition) validate() error {
	switch {
	case d.pool == nil:
		return errors.New("the pool is nil")
	case len(d.sources) == 0:
		return errors.New("there is no statement")
	case d.asViewer && d.claims == nil:
		return errors.New("AsViewer got nil: it wants a function that says who a client is, or a Setting whose name has a dot, such as app.viewer")
	case d.asViewer && d.asRole:
		return errors.New("AsViewer and WithoutViewer exclude each other")
	case d.maxBytes < 1:
		return fmt.Errorf("MaxBytes is %d, want 1 or more", d.maxBytes)
	}
	for i, source := range d.sources {
		if withoutEnd(source) == "" {
			return fmt.Errorf("statement %d of %d is empty", i+1, len(d.sources))
		}
	}
	return nil
}

// withoutEnd cuts off the end, which must not stand in the middle of a larger statement.
func withoutEnd(source string) string { return strings.TrimRight(source, "; \t\r\n") }

func (q *Query) prepare(ctx context.Context, conn *pgx.Conn, source string) (statement, error) {
	// The unnamed statement leaves nothing on the connection.
	described, err := conn.PgConn().Prepare(ctx, "", source, nil)
	if err != nil {
		return statement{}, err
	}
	if n := len(described.ParamOIDs); n != 1 {
		return statement{}, fmt.Errorf("%w: it has %d parameters, want $1, the id", ErrBadQuery, n)
	}
	if len(described.Fields) == 0 {
		return statement{}, fmt.Errorf("%w: it returns no columns", ErrBadQuery)
	}
	names := make(map[string]bool)
	for _, field := range described.Fields {
		if names[field.Name] {
			return statement{}, fmt.Errorf("%w: two columns are called %q: name one of them with AS", ErrBadQuery, field.Name)
		}
		names[field.Name] = true
	}
	s := statement{sql: source, id: idType(described.ParamOIDs[0])}
	s.plain = s.id.isPlain(conn.PgConn().ParameterStatus("server_encoding") == "UTF8")
	kind, err := kindOf(ctx, conn, s.id)
	switch {
	case err != nil:
		return statement{}, err
	case kind.array && !q.batch:
		return statement{}, fmt.Errorf("%w: $1 is an array, want one id: = any($1) is for Batch", ErrBadQuery)
	case !kind.array && q.batch:
		return statement{}, fmt.Errorf("%w: $1 is not an array of ids: a batch wants = any($1)", ErrBadQuery)
	case !kind.exact && !q.batch:
		return statement{}, looseID("the type " + kind.name)
	}
	if !s.plain {
		s.spelled = kind.spelled()
	}
	if !q.batch && (s.id == pgtype.TextOID || s.id == pgtype.VarcharOID) {
		loose, err := isLoose(ctx, conn, source, described, described.Fields...) // one of them may be the id
		if err == nil && loose {
			err = looseID("a collation that is not deterministic")
		}
		if err != nil {
			return statement{}, err
		}
	}
	first := described.Fields[0]
	switch {
	case q.batch:
		if !s.id.isArrayOf(first.DataTypeOID) {
			return statement{}, fmt.Errorf("%w: the first column, %q, cannot be the id that = any($1) takes: their types differ", ErrBadQuery, first.Name)
		}
		row := "row_to_json(r.*)::text"
		if q.typed != nil {
			row = "r.*"
		}
		column := "r." + pgx.Identifier{first.Name}.Sanitize()
		s.sql = fmt.Sprintf("select %s::text, %s from (\n%s\n) r", column, row, source)
		if !s.plain { // it runs for one id, which may equal the id of a row that is spelled differently
			s.sql += fmt.Sprintf(" where %s = %s", kind.spelling(fmt.Sprintf("(%s)::%s", column, kind.name)), kind.spelling(kind.id()))
		}
		if s.loose, err = isLoose(ctx, conn, source, described, first); err != nil {
			return statement{}, err
		}
	case q.typed == nil:
		s.sql = fmt.Sprintf("select row_to_json(r.*)::text from (\n%s\n) r", source)
	}
	// A connection caches prepared statements by their text. With another type of id the text
	// must differ.
	s.sql = fmt.Sprintf("/* id %d */ %s", s.id, s.sql)
	if _, err = conn.PgConn().Prepare(ctx, "", s.sql, nil); err != nil {
		return statement{}, err
	}
	// PostgreSQL checks the rights to the tables when the statement runs.
	nobody := fmt.Sprintf("select from (\n%s\n) r limit 0", source)
	err = conn.PgConn().ExecParams(ctx, nobody, [][]byte{nil}, described.ParamOIDs, nil, nil).Read().Err
	return s, err
}

// looseID is the error for a type of which equal ids may differ, if rows do not have their
// ids.
func looseID(of string) error {
	return fmt.Errorf("%w: ids of %s may be equal and spelled otherwise, and a change is announced in one spelling: use Batch, whose first column says how a row's id is spelled", ErrBadQuery, of)
}

// isLoose reports whether the collation of one of the columns takes different texts for equal,
// as a collation that ignores case does.
func isLoose(ctx context.Context, conn *pgx.Conn, source string, described *pgconn.StatementDescription, columns ...pgconn.FieldDescription) (bool, error) {
	var collations []string
	for _, c := range columns {
		if c.DataTypeOID == pgtype.TextOID || c.DataTypeOID == pgtype.VarcharOID {
			collations = append(collations, fmt.Sprintf("pg_collation_for((select r.%s from (\n%s\n) r limit 0))::regcollation", pgx.Identifier{c.Name}.Sanitize(), source))
		}
	}
	if len(collations) == 0 {
		return false, nil
	}
	sql := fmt.Sprintf("select exists (select from pg_collation c where not c.collisdeterministic and c.oid in (%s))", strings.Join(collations, ", "))
	result := conn.PgConn().ExecParams(ctx, sql, [][]byte{nil}, described.ParamOIDs, nil, nil).Read()
	return result.Err == nil && string(result.Rows[0][0]) == "t", result.Err
}

// isArrayOf reports whether t may be an array of the type. It returns false only for types
// that it knows.
func (t idType) isArrayOf(element uint32) bool {
	switch t {
	case pgtype.Int2ArrayOID, pgtype.Int4ArrayOID, pgtype.Int8ArrayOID:
		return element == pgtype.Int2OID || element == pgtype.Int4OID || element == pgtype.Int8OID
	case pgtype.UUIDArrayOID:
		return element == pgtype.UUIDOID
	default:
		return true
	}
}
