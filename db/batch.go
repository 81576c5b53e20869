package db

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// readBatch runs the statement for the ids of one viewer's requests.
func (f *fetch) readBatch(ctx context.Context, v viewer) {
	b := batch{fetch: f, settings: v.settings, found: make(map[string]*found, len(v.requests))}
	for _, i := range v.requests {
		if id, ok := f.plan[0].id.normal(f.requests[i].Key.ID); ok && b.found[id] == nil {
			b.found[id] = &found{}
			b.ids = append(b.ids, id)
		}
	}
	err := b.read(ctx, b.ids)
	if err == nil && b.stray && !b.matched {
		err = errStray
	}
	for _, i := range v.requests {
		r := &f.results[i]
		id, ok := f.plan[0].id.normal(f.requests[i].Key.ID)
		switch {
		case !ok:
			r.Err = f.query.outcome(nil, nil)
		case err != nil:
			r.Err = err
		default:
			r.Rows, r.Err = b.found[id].rows, b.found[id].err
			r.Err = f.query.outcome(r.Rows, r.Err)
		}
	}
}

// batch is the keys of one viewer.
type batch struct {
	fetch    *fetch
	settings []setting
	ids      []string // each once, as PostgreSQL writes them
	found    map[string]*found
	matched  bool // a row is of one of them
	stray    bool // a row is of none
}

// found is what was read of one id.
type found struct {
	rows [][]byte
	size int
	err  error
}

// errStray is for a statement whose first column is not the id. Some rows may
// well be of ids that are written in another way than they were asked for, where
// the type does not tell case, say: those are not found.
var errStray = errors.New("no row belongs to an id that was asked for: the statement's first column must be the id")

// read reads the rows of ids. One that cannot be an id fails the statement for all
// of them: it is looked for by halves, and then just has no rows.
func (b *batch) read(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	f := b.fetch
	err := f.query.run(ctx, b.settings, f.plan, []string{arrayLiteral(ids)}, b.add)
	if !isBadID(err) {
		return err
	}
	if len(ids) == 1 {
		return nil
	}
	for _, half := range [][]string{ids[:len(ids)/2], ids[len(ids)/2:]} {
		if err := b.read(ctx, half); err != nil {
			return err
		}
	}
	return nil
}

func (b *batch) add(row pgx.Rows) error {
	id := row.RawValues()[0]
	f := b.found[string(id)]
	if id == nil || f == nil {
		b.stray = true
		return nil
	}
	b.matched = true
	if f.err != nil {
		return nil //nolint:nilerr // it is that key's alone
	}
	var text []byte
	text, f.err = b.fetch.query.encode(withoutID{row})
	if f.size += len(text); f.err == nil && f.size > b.fetch.query.maxBytes {
		f.err = fmt.Errorf("the rows come to more than %d bytes", b.fetch.query.maxBytes)
	}
	f.rows = append(f.rows, text)
	if f.err != nil {
		f.rows = nil
	}
	return nil
}

// withoutID is a row but for the id that was put in front of it.
type withoutID struct{ pgx.Rows }

func (w withoutID) FieldDescriptions() []pgconn.FieldDescription {
	return w.Rows.FieldDescriptions()[1:]
}

func (w withoutID) RawValues() [][]byte { return w.Rows.RawValues()[1:] }

// Scan leaves the rows open when a value does not fit: that is one key's trouble,
// not that of all others.
func (w withoutID) Scan(dest ...any) error {
	return pgx.ScanRow(w.Conn().TypeMap(), w.FieldDescriptions(), w.RawValues(), dest...)
}

// arrayLiteral is ids as PostgreSQL reads an array of any type.
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
