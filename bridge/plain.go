package bridge

import (
	"strconv"
	"strings"

	"github.com/entity-sync/entity-sync/shared"
)

// A plain notification is one without white space, its fields in their order, no text
// in it that needs escaping. Package encoding/json reads and writes the same, and all
// others. Nearly all messages are plain, and most are of keys that nobody here
// watches, so that reading them is most of what they cost.

// encodePlain returns what encodeAny does, for what can be plain.
func encodePlain(n notification) (body []byte, plain bool) {
	w := plainWriter{body: make([]byte, 0, n.room())}
	w.put(`{"entity":`)
	w.text(string(n.Entity))
	if n.ID != "" {
		w.put(`,"id":`)
		w.text(n.ID)
	}
	if len(n.IDs) > 0 {
		before := `,"ids":[`
		for _, id := range n.IDs {
			w.put(before)
			w.text(id)
			before = `,`
		}
		w.put(`]`)
	}
	if n.From != "" {
		w.put(`,"from":`)
		w.text(n.From)
	}
	if n.Seq != 0 {
		w.put(`,"seq":`)
		w.body = strconv.AppendUint(w.body, n.Seq, 10)
	}
	w.put(`}`)
	return w.body, !w.failed
}

// room is how many bytes the notification takes when it is plain, and a few more.
func (n notification) room() int {
	room := 72 + len(n.Entity) + len(n.ID) + len(n.From)
	for _, id := range n.IDs {
		room += len(id) + len(`"",`)
	}
	return room
}

// plainWriter has failed once it was given a text that is not plain.
type plainWriter struct {
	body   []byte
	failed bool
}

func (w *plainWriter) put(s string) { w.body = append(w.body, s...) }

func (w *plainWriter) text(s string) {
	for i := range len(s) {
		if !isPlain(s[i]) {
			w.failed = true
		}
	}
	w.body = append(w.body, '"')
	w.body = append(w.body, s...)
	w.body = append(w.body, '"')
}

// isPlain says that c stands for itself inside a quoted text, as most of ASCII does.
func isPlain(c byte) bool { return ' ' <= c && c <= '~' && c != '"' && c != '\\' }

// decodePlain reads a plain notification. Of anything else it says nothing but that
// it is not plain. The texts in the notification are parts of body.
func decodePlain(body string) (n notification, plain bool) {
	p := plainReader{rest: body}
	p.need(`{"entity":`)
	n.Entity = shared.EntityType(p.text())
	switch {
	case p.skip(`,"id":`):
		n.ID = p.text()
	case p.skip(`,"ids":[`):
		n.IDs = make([]string, 0, 1+strings.Count(p.rest, `","`))
		for more := true; more; more = p.skip(`,`) {
			n.IDs = append(n.IDs, p.text())
		}
		p.need(`]`)
	}
	if p.skip(`,"from":`) {
		n.From = p.text()
	}
	if p.skip(`,"seq":`) {
		n.Seq = p.number()
	}
	p.need(`}`)
	return n, !p.failed && p.rest == ""
}

// plainReader reads from the front of a text. Once it has failed, nothing that it
// returns means anything.
type plainReader struct {
	rest   string
	failed bool
}

func (p *plainReader) skip(s string) (found bool) {
	p.rest, found = strings.CutPrefix(p.rest, s)
	return found
}

func (p *plainReader) need(s string) {
	if !p.skip(s) {
		p.failed = true
	}
}

// text reads a quoted text of ASCII without escapes.
func (p *plainReader) text() string {
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

// number reads one that does not begin with 0.
func (p *plainReader) number() uint64 {
	digits := len(p.rest) - len(strings.TrimLeft(p.rest, "0123456789"))
	n, err := strconv.ParseUint(p.rest[:digits], 10, 64)
	if err != nil || p.rest[0] == '0' {
		p.failed = true
	}
	p.rest = p.rest[digits:]
	return n
}
