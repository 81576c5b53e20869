package db

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/entity-sync/entity-sync/db/internal/sqlstate"
	"github.com/entity-sync/entity-sync/internal/isolate"
)

// readBatch runs the statement for all ids of one viewer's requests.
func (f *fetch) readBatch(ctx context.Context, v viewer) {
	read := f.readTogether
	if !f.plan[0].plain {
		read = f.readApart
	}
	found := read(ctx, v)
	for _, i := range v.requests {
		r := &f.results[i]
		if of := found[f.requests[i].Key.ID]; of != nil {
			r.Rows, r.Err = of.rows, of.err
		}
		r.Err = f.query.outcome(r.Rows, r.Err)
	}
}

// found is the rows, or the error, of one id.
type found struct {
	rows [][]byte
	size int
	err  error
}

// readApart runs the statement for each id by itself. It is for types of which one value may
// have different texts, such as 1.5 and 1.50 of numeric, or of which only PostgreSQL can tell
// which texts are values.
func (f *fetch) readApart(ctx context.Context, v viewer) map[string]*found {
	all := make(map[string]*found, len(v.requests))
	for _, i := range v.requests {
		id := f.requests[i].Key.ID
		if all[id] == nil {
			rows, err := f.readOne(ctx, v.settings, id)
			all[id] = &found{rows: rows, err: err}
		}
	}
	return all
}

// readTogether runs the statement once. If a row may have made it fail, it runs the statement
// with parts of the ids, down to one, so that other ids get their rows.
func (f *fetch) readTogether(ctx context.Context, v viewer) map[string]*found {
	all := make(map[string]*found, len(v.requests))
	var ids []string
	for _, i := range v.requests {
		id := f.requests[i].Key.ID
		if _, double := all[id]; !double && f.plan[0].id.mayBe(id) {
			all[id] = nil
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	if err := f.readPart(ctx, v, ids, all); err == nil || len(ids) == 1 || !f.mayBeOfOneRow(ctx, err) {
		return all
	}
	if !f.plan[0].plain { // the type of the ids has changed since the first check
		return f.readApart(ctx, v)
	}
	isolate.Each(ctx, ids, func(part []string) bool { return f.readPart(ctx, v, part, all) == nil })
	return all
}

// mayBeOfOneRow is sqlstate.MayBeOfOneRow, once the statements are known to be right.
func (f *fetch) mayBeOfOneRow(ctx context.Context, err error) bool {
	if !sqlstate.MayBeOfOneRow(err) {
		return false
	}
	plan, err := f.query.checked(ctx) // checked again, if the error may be about the statement
	if err != nil {
		return false
	}
	f.plan = plan
	return true
}

// errStray is for a statement whose first column is not the id.
var errStray = errors.New("no row belongs to an id that was asked for: the statement's first column must be the id")

// readPart runs the statement for some of the ids and stores what it found for each. The first
// column of a row is the id that the row belongs to. An error of the statement is stored for
// each of these ids.
func (f *fetch) readPart(ctx context.Context, v viewer, ids []string, all map[string]*found) error {
	part := make(map[string]*found, len(ids))
	for _, id := range ids {
		part[id] = &found{}
	}
	var matched, stray bool
	err := f.query.run(ctx, v.settings, f.plan, []string{arrayLiteral(ids)}, nil, func(row pgx.Rows) error {
		id := row.RawValues()[0]
		of := part[string(id)]
		if id == nil || of == nil {
			stray = true
			return nil
		}
		matched = true
		of.add(f.query, row)
		return nil
	})
	if err == nil && stray && !matched && !f.plan[0].loose {
		err = errStray
	}
	for id, of := range part {
		if err != nil {
			*of = found{err: err}
		}
		all[id] = of
	}
	return err
}

// add takes a row. If that fails, only the row's own key has the error.
func (f *found) add(q *Query, row pgx.Rows) {
	if f.err != nil {
		return
	}
	text, err := q.encode(row)
	if f.size += len(text); err == nil && f.size > q.maxBytes {
		err = fmt.Errorf("the rows come to more than %d bytes", q.maxBytes)
	}
	if err != nil {
		f.rows, f.err = nil, err
		return
	}
	f.rows = append(f.rows, text)
}

// withoutID is a row without the id in front.
type withoutID struct{ pgx.Rows }

func (w withoutID) FieldDescriptions() []pgconn.FieldDescription {
	return w.Rows.FieldDescriptions()[1:]
}

func (w withoutID) RawValues() [][]byte { return w.Rows.RawValues()[1:] }

// Scan leaves the rows open when a value does not fit, so that only the row's own key fails.
func (w withoutID) Scan(dest ...any) error {
	return pgx.ScanRow(w.Conn().TypeMap(), w.FieldDescriptions(), w.RawValues(), dest...)
}

// arrayLiteral returns ids as PostgreSQL reads an array of any type.
func arrayLiteral(ids []string) string {
	var s strings.Builder
	s.WriteByte('{')
	for i, id := range ids {
		if i > 0 {
			s.WriteByte(',')
		}
		s.WriteByte('"')
		for j := range len(id) {
			if id[j] == '"' || id[j] == '\\' {
				s.WriteByte('\\')
			}
			s.WriteByte(id[j])
		}
		s.WriteByte('"')
	}
	s.WriteByte('}')
	return s.String()
}
