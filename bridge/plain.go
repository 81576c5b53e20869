package bridge

import (
	"strconv"
	"strings"

	"github.com/entity-sync/entity-sync/shared"
)

// decodePlain reads a notification that is written as nodes write it: without white
// space, its fields in their order, no text in it that needs escaping. Of anything
// else it says nothing but that it is not: package encoding/json reads that, and
// would read the same of what is plain. Nearly all messages are plain, and most are
// of keys that nobody here watches, so reading them is most of what they cost.
//
// The texts in the notification are parts of body.
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
		case c == '\\', c < ' ', c > '~':
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
