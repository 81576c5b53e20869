package client

import (
	"encoding/json"
	"strconv"

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

// wireFrame is a frame as it comes.
type wireFrame struct {
	Action string          `json:"action"`
	Ref    json.RawMessage `json:"ref"`
	Body   struct {
		shared.EntityKey
		Index   *int              `json:"index"`
		Version string            `json:"version"`
		Rows    []json.RawMessage `json:"rows"`
		Code    string            `json:"code"`
		Message string            `json:"message"`
	} `json:"body"`
}

// decode reads a message from the server. One that is no frame of the protocol is
// the application's own.
func decode(message []byte) (f frame, ok bool) {
	var w wireFrame
	if err := json.Unmarshal(message, &w); err != nil {
		return frame{}, false
	}
	f = frame{action: w.Action, key: w.Body.EntityKey}
	f.ref, _ = strconv.Atoi(string(w.Ref)) // ours are numbers
	switch w.Action {
	case actionAck, actionStale, actionFresh, actionExpiring:
		return f, true
	case actionUpdate:
		f.version, f.rows = w.Body.Version, w.Body.Rows
		return f, f.key.Validate() == nil && len(f.rows) > 0
	case actionCurrent:
		f.version = w.Body.Version
		return f, f.key.Validate() == nil
	case actionDelete:
		return f, f.key.Validate() == nil
	case actionUnsubscribed:
		f.err = &Error{w.Body.Code, w.Body.Message}
		return f, f.key.Validate() == nil && w.Body.Code != ""
	case actionError: // not all of them are about a key
		f.index = w.Body.Index
		f.err = &Error{w.Body.Code, w.Body.Message}
		return f, w.Body.Code != ""
	default:
		return frame{}, false
	}
}
