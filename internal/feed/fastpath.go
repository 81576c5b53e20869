package feed

import (
	"math"
	"strconv"
	"strings"

	"github.com/entity-sync/entity-sync/shared"
)

// The fast path is for a message without white space, with its members in the order of type
// message and no text that needs escaping. The slow path, by encoding/json, reads and writes
// any message, and these in the same way. Nearly all messages take the fast path. Most are
// of keys that no client here watches, so that reading them is most of their cost.

// encodeFast returns what encodeSlow does. It is not ok if a text needs escaping.
func encodeFast(m message) (body []byte, ok bool) {
	w := fastWriter{body: make([]byte, 0, m.size())}
	w.put(`{"entity":`)
	w.text(string(m.Entity))
	if m.ID != "" {
		w.put(`,"id":`)
		w.text(m.ID)
	}
	if len(m.IDs) > 0 {
		before := `,"ids":[`
		for _, id := range m.IDs {
			w.put(before)
			w.text(id)
			before = `,`
		}
		w.put(`]`)
	}
	if len(m.Records) > 0 {
		before := `,"records":[`
		for _, record := range m.Records {
			w.put(before)
			w.body = append(w.body, record...)
			before = `,`
		}
		w.put(`]`)
	}
	if m.From != "" {
		w.put(`,"from":`)
		w.text(m.From)
	}
	if m.Seq != 0 {
		w.put(`,"seq":`)
		w.body = strconv.AppendUint(w.body, m.Seq, 10)
	}
	if m.Skip != 0 {
		w.put(`,"skip":`)
		w.body = strconv.AppendUint(w.body, m.Skip, 10)
	}
	if m.At != 0 {
		w.put(`,"at":`)
		w.body = strconv.AppendInt(w.body, m.At, 10)
	}
	if m.Trace != "" {
		w.put(`,"trace":`)
		w.text(m.Trace)
	}
	w.put(`}`)
	return w.body, !w.failed
}

// size is how many bytes the message takes on the fast path, and a few more.
func (m message) size() int {
	room := 112 + len(m.Entity) + len(m.ID) + len(m.From) + len(m.Trace)
	for _, id := range m.IDs {
		room += len(id) + len(`"",`)
	}
	for _, record := range m.Records {
		room += len(record) + len(`,`)
	}
	return room
}

// fastWriter fails once it is given a text that needs escaping.
type fastWriter struct {
	body   []byte
	failed bool
}

func (w *fastWriter) put(s string) { w.body = append(w.body, s...) }

func (w *fastWriter) text(s string) {
	for i := range len(s) {
		if !isPlain(s[i]) {
			w.failed = true
		}
	}
	w.body = append(w.body, '"')
	w.body = append(w.body, s...)
	w.body = append(w.body, '"')
}

// isPlain reports whether c stands for itself inside a quoted text, as most of ASCII does.
func isPlain(c byte) bool { return ' ' <= c && c <= '~' && c != '"' && c != '\\' }

// decodeFast is not ok if the slow path must read the body. The message's texts are parts of
// body.
func decodeFast(body string) (m message, ok bool) {
	p := fastReader{rest: body}
	p.need(`{"entity":`)
	m.Entity = shared.EntityType(p.text())
	switch {
	case p.skip(`,"id":`):
		m.ID = p.text()
	case p.skip(`,"ids":[`):
		m.IDs = make([]string, 0, 1+strings.Count(p.rest, `","`))
		for more := true; more; more = p.skip(`,`) {
			m.IDs = append(m.IDs, p.text())
		}
		p.need(`]`)
	}
	if p.skip(`,"from":`) {
		m.From = p.text()
	}
	if p.skip(`,"seq":`) {
		m.Seq = p.number()
	}
	if p.skip(`,"at":`) {
		at := p.number()
		p.failed = p.failed || at > math.MaxInt64
		m.At = int64(at) //nolint:gosec // no more than that
	}
	if p.skip(`,"trace":`) {
		m.Trace = p.text()
	}
	p.need(`}`)
	return m, !p.failed && p.rest == ""
}

// fastReader reads from the front of a text. Once it has failed, its results mean nothing.
type fastReader struct {
	rest   string
	failed bool
}

func (p *fastReader) skip(s string) (found bool) {
	p.rest, found = strings.CutPrefix(p.rest, s)
	return found
}

func (p *fastReader) need(s string) {
	if !p.skip(s) {
		p.failed = true
	}
}

// text reads a quoted text of ASCII without escapes.
func (p *fastReader) text() string {
	p.need(`"`)
	for i := range len(p.rest) {
		switch c := p.rest[i]; {
		case c == '"':
			text := p.rest[:i]
			p.rest = p.rest[i+1:]
			return text
		case !isPlain(c):
			p.failed = true
			return ""
		}
	}
	p.failed = true
	return ""
}

// number reads a number that does not begin with 0.
func (p *fastReader) number() uint64 {
	digits := len(p.rest) - len(strings.TrimLeft(p.rest, "0123456789"))
	n, err := strconv.ParseUint(p.rest[:digits], 10, 64)
	if err != nil || p.rest[0] == '0' {
		p.failed = true
	}
	p.rest = p.rest[digits:]
	return n
}
