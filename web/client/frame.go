package client

import (
	"encoding/json"
	"strconv"

	"github.com/entity-sync/entity-sync/internal/exactjson"
	"github.com/entity-sync/entity-sync/shared"
)

// subprotocol is the wire; see docs/protocol.md.
const subprotocol = "entity-sync.v2"

// Close codes with a meaning of their own here.
const (
	closeExpired         = 4401
	closeUnauthenticated = 4501
	closeRevoked         = 4503
)

// What a server says.
const (
	actionAck          = "ack"
	actionUpdate       = "update"
	actionCurrent      = "current"
	actionDelete       = "delete"
	actionUnsubscribed = "unsubscribed"
	actionStale        = "stale"
	actionFresh        = "fresh"
	actionExpiring     = "expiring"
	actionError        = "error"
)

// frame is something that the server says. What is in it depends on the action.
type frame struct {
	action  string
	ref     int // of our request, zero where there is none
	key     shared.EntityKey
	index   *int // of the key in the request, where it is malformed
	version string
	rows    []json.RawMessage
	err     *Error
}

var (
	frameNames = []string{"action", "ref", "body"}
	bodyNames  = []string{"entity", "id", "version", "rows", "code", "message", "index"}
)

// decode reads a message from the server. One that is no frame of the protocol is
// the application's own; so is one that can be read in two ways, which no node sends.
func decode(message []byte) (f frame, ok bool) {
	if !json.Valid(message) || !exactjson.IsObject(message) {
		return frame{}, false
	}
	var m [3]exactjson.Member
	exactjson.Read(message, frameNames, m[:])
	body, ok := readBody(m[2].Value)
	if !ok || m[0].Ambiguous || m[1].Ambiguous || m[2].Ambiguous {
		return frame{}, false
	}
	action, err := exactjson.String(m[0].Value)
	if err != nil {
		return frame{}, false
	}
	f = frame{action: action, key: body.key}
	f.ref, _ = strconv.Atoi(string(m[1].Value)) // ours are numbers
	return f.with(body)
}

// frameBody is the body of a frame.
type frameBody struct {
	key                    shared.EntityKey
	version, code, message string
	rows                   []json.RawMessage
	index                  *int
}

func readBody(body []byte) (b frameBody, ok bool) {
	var m [7]exactjson.Member
	switch {
	case exactjson.IsObject(body):
		exactjson.Read(body, bodyNames, m[:])
	case body != nil && string(body) != "null":
		return b, false
	}
	for i, text := range []*string{(*string)(&b.key.Entity), &b.key.ID, &b.version, nil, &b.code, &b.message} {
		if m[i].Ambiguous {
			return b, false
		}
		if text == nil {
			continue
		}
		var err error
		if *text, err = exactjson.String(m[i].Value); err != nil {
			return b, false
		}
	}
	if m[6].Ambiguous {
		return b, false
	}
	if m[6].Has() {
		i, err := strconv.Atoi(string(m[6].Value))
		if err != nil {
			return b, false
		}
		b.index = &i
	}
	rows := m[3].Value
	if m[3].Has() && !exactjson.IsList(rows) {
		return b, false
	}
	if m[3].Has() {
		for row := range exactjson.Elements(rows) {
			b.rows = append(b.rows, row)
		}
	}
	return b, true
}

// with adds what belongs to the frame's action of a body. It returns false where
// something is missing.
func (f frame) with(b frameBody) (frame, bool) {
	switch f.action {
	case actionAck, actionStale, actionFresh, actionExpiring:
		return f, true
	case actionUpdate:
		f.version, f.rows = b.version, b.rows
		return f, f.key.Validate() == nil && len(f.rows) > 0
	case actionCurrent:
		f.version = b.version
		return f, f.key.Validate() == nil
	case actionDelete:
		return f, f.key.Validate() == nil
	case actionUnsubscribed:
		f.err = &Error{b.code, b.message}
		return f, f.key.Validate() == nil && b.code != ""
	case actionError: // not all of them are about a key
		f.index = b.index
		f.err = &Error{b.code, b.message}
		return f, b.code != ""
	default:
		return frame{}, false
	}
}
