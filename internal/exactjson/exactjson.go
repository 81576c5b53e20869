// Package exactjson reads JSON by the letter. Package encoding/json matches a member's name
// in any case, takes the last of two members with one name, and reads every invalid character
// as one and the same. So two programs that read one message may read different ones.
package exactjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"iter"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Member is the value that an object has under one name.
type Member struct {
	Value []byte // of the member with exactly this name; nil if there is none

	// Ambiguous says that other programs may read another value: the name is there
	// twice, or in another case.
	Ambiguous bool
}

// Has reports whether there is a value, other than null.
func (m *Member) Has() bool { return m.Value != nil && !isNull(m.Value) }

func isNull(value []byte) bool { return value[0] == 'n' }

// Read looks up the members of an object by their names. The object must be valid JSON, and
// the names must be ASCII. If a name is there twice, the first value counts. Other members
// are passed over. The values are parts of the object.
func Read(object []byte, names []string, members []Member) {
	for quoted, value := range Members(object) {
		note(quoted, value, names, members)
	}
}

// Members yields the members of an object, which is valid JSON: each with its name, quoted as
// it is there, and its value. Both are parts of the object.
func Members(object []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(quoted, value []byte) bool) {
		r := reader{rest: object}
		r.space()
		r.rest = r.rest[1:]
		for r.more('}') {
			quoted := r.value()
			r.space()
			r.rest = r.rest[1:] // the colon
			r.space()
			if !yield(quoted, r.value()) {
				return
			}
		}
	}
}

// Name returns the text of a member's name.
func Name(quoted []byte) string {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1 : len(quoted)-1])
	}
	var text string
	_ = json.Unmarshal(quoted, &text) // it is valid
	return text
}

// note puts a member where it belongs, if it has one of the names.
func note(quoted, value []byte, names []string, members []Member) {
	name := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(name, '\\') >= 0 {
		var text string
		_ = json.Unmarshal(quoted, &text) // it is valid
		name = []byte(text)
	}
	for i := range names {
		switch m := &members[i]; {
		case string(name) == names[i]:
			if m.Value == nil {
				m.Value = value
			} else {
				m.Ambiguous = true
			}
			return
		case bytes.EqualFold(name, []byte(names[i])):
			m.Ambiguous = true
			return
		}
	}
}

// Elements returns the elements of a list, which must be valid JSON. They are parts of the list.
func Elements(list []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		r := reader{rest: list}
		r.space()
		r.rest = r.rest[1:]
		for r.more(']') && yield(r.value()) {
		}
	}
}

// IsObject reports whether valid JSON, which may begin with white space, is an object.
func IsObject(b []byte) bool { return begins(b, '{') }

// IsList reports whether valid JSON, which may begin with white space, is a list.
func IsList(b []byte) bool { return begins(b, '[') }

func begins(b []byte, with byte) bool {
	r := reader{rest: b}
	r.space()
	return len(r.rest) > 0 && r.rest[0] == with
}

var (
	// ErrNoString says that a value is no string.
	ErrNoString = errors.New("a value is not a string")

	// ErrNoCharacter says that a string holds an invalid character: half a surrogate pair,
	// or bytes that are not UTF-8.
	ErrNoCharacter = errors.New("a string holds an invalid character")
)

// String returns the text of a value, which is valid JSON and has no white space
// around it. Null is the empty text.
func String(value []byte) (string, error) {
	switch {
	case len(value) == 0 || isNull(value):
		return "", nil
	case value[0] != '"':
		return "", ErrNoString
	case !utf8.Valid(value):
		return "", ErrNoCharacter
	case bytes.IndexByte(value, '\\') < 0:
		return string(value[1 : len(value)-1]), nil
	case hasHalves(value):
		return "", ErrNoCharacter
	}
	var text string
	err := json.Unmarshal(value, &text)
	return text, err
}

// hasHalves reports whether a string has an escape for half a surrogate pair, without the
// other half.
func hasHalves(quoted []byte) bool {
	for {
		i := bytes.IndexByte(quoted, '\\')
		if i < 0 {
			return false
		}
		quoted = quoted[i:]
		unit, ok := escaped(quoted)
		if !ok {
			quoted = quoted[len(`\n`):]
			continue
		}
		quoted = quoted[len(`\u0000`):]
		if !utf16.IsSurrogate(unit) {
			continue
		}
		second, _ := escaped(quoted)
		if utf16.DecodeRune(unit, second) == utf8.RuneError {
			return true
		}
		quoted = quoted[len(`\u0000`):]
	}
}

// escaped returns the number of an escape like \u0020, if b begins with one.
func escaped(b []byte) (unit rune, ok bool) {
	if !bytes.HasPrefix(b, []byte(`\u`)) {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	return rune(n), err == nil
}

// reader reads valid JSON from its front.
type reader struct{ rest []byte }

func (r *reader) space() {
	for len(r.rest) > 0 && r.rest[0] <= ' ' {
		r.rest = r.rest[1:]
	}
}

// more passes over what stands before the next element or member. It returns false at
// the end.
func (r *reader) more(end byte) bool {
	r.space()
	if r.rest[0] == end {
		return false
	}
	if r.rest[0] == ',' {
		r.rest = r.rest[1:]
		r.space()
	}
	return true
}

// value returns the next value, and passes over it.
func (r *reader) value() []byte {
	n := 0
	switch r.rest[0] {
	case '"':
		n = textLength(r.rest)
	case '{', '[':
		n = r.nestedLength()
	default:
		for n < len(r.rest) && bytes.IndexByte([]byte(",]} \t\r\n"), r.rest[n]) < 0 {
			n++
		}
	}
	value := r.rest[:n:n]
	r.rest = r.rest[n:]
	return value
}

// textLength is how long the string is that b begins with.
func textLength(b []byte) int {
	for n := 1; ; n++ {
		switch b[n] {
		case '"':
			return n + 1
		case '\\':
			n++
		}
	}
}

// nestedLength is how long the object or list is that comes next.
func (r *reader) nestedLength() int {
	for n, depth := 0, 0; ; n++ {
		switch r.rest[n] {
		case '"':
			n += textLength(r.rest[n:]) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return n + 1
			}
		}
	}
}
