package workload

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// RowBytes is the length of every row.
const RowBytes = 256

// Row is one state of a key.
type Row struct {
	Key      int
	Revision int   // how often the key has changed
	At       int64 // when it last did, in nanoseconds since 1970
	Viewer   int   // whose row this is, from 1 on; zero for everybody's
}

const (
	keyField      = `{"key":`
	revisionField = `,"rev":`
	atField       = `,"at":`
	viewerField   = `,"viewer":`
	fillField     = `,"fill":"`
	rowEnd        = `"}`
)

var fill = strings.Repeat("x", RowBytes)

// Append appends the row as a JSON object of RowBytes.
func (r Row) Append(b []byte) []byte {
	b = slices.Grow(b, RowBytes)
	begin := len(b)
	b = append(b, keyField...)
	b = strconv.AppendInt(b, int64(r.Key), 10)
	b = append(b, revisionField...)
	b = strconv.AppendInt(b, int64(r.Revision), 10)
	b = append(b, atField...)
	b = strconv.AppendInt(b, r.At, 10)
	b = append(b, viewerField...)
	b = strconv.AppendInt(b, int64(r.Viewer), 10)
	b = append(b, fillField...)
	b = append(b, fill[:RowBytes-len(rowEnd)-(len(b)-begin)]...)
	return append(b, rowEnd...)
}

var errNoRow = errors.New("a row with a field missing")

// Next returns the first row in a message and what follows it, and false where
// there is none.
func Next(message []byte) (r Row, rest []byte, ok bool, err error) {
	at := bytes.Index(message, []byte(keyField))
	if at < 0 {
		return Row{}, nil, false, nil
	}
	p := parser{message[at:], nil}
	r.Key = int(p.number(keyField))
	r.Revision = int(p.number(revisionField))
	r.At = p.number(atField)
	r.Viewer = int(p.number(viewerField))
	return r, p.rest, true, p.err
}

type parser struct {
	rest []byte
	err  error
}

// number reads a number after what comes before it.
func (p *parser) number(before string) (n int64) {
	if !bytes.HasPrefix(p.rest, []byte(before)) {
		p.err = errNoRow
		return 0
	}
	p.rest = p.rest[len(before):]
	for len(p.rest) > 0 && p.rest[0] >= '0' && p.rest[0] <= '9' {
		n = 10*n + int64(p.rest[0]-'0')
		p.rest = p.rest[1:]
	}
	return n
}

// Table holds the newest row of each key: it stands in for the database.
type Table struct {
	mu   sync.Mutex
	rows []Row
}

// NewTable returns a table of keys that have not changed yet.
func NewTable(keys int) *Table {
	t := &Table{rows: make([]Row, keys)}
	for k := range t.rows {
		t.rows[k].Key = k
	}
	return t
}

// Change changes a key, now.
func (t *Table) Change(key int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows[key].Revision++
	t.rows[key].At = time.Now().UnixNano()
}

// Get returns the newest row of a key.
func (t *Table) Get(key int) Row {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rows[key]
}
