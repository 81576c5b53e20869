package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/entity-sync/entity-sync/internal/exactjson"
	"github.com/entity-sync/entity-sync/shared"
)

// request is a message from the client, on either wire.
type request struct {
	action shared.Action   // nothing where the message is the application's own
	ref    json.RawMessage // nothing where there is none that can be sent back
	body   []byte
	badRef bool
}

var (
	errNotJSON   = &refusal{code: codeBadJSON, message: "the message is not JSON"}
	errNoRequest = &refusal{code: codeBadMessage, message: "a message is an object whose action is a string"}
	errTwoWays   = &refusal{code: codeBadMessage, message: "a name is there twice, or not in its exact case"}
	errBadKeys   = &refusal{code: codeBadMessage, message: "the body is a key, {\"entity\":…,\"id\":…} with strings, or a list of keys"}
)

var requestNames = []string{"action", "ref", "body"}

// maxRefBytes bounds what a request may have sent back.
const maxRefBytes = 128

// readRequest reads a message. What is between client and node may read JSON in another
// way: a request that could then be another one is refused. An error comes with the
// ref, as far as there is one.
func readRequest(message []byte) (r request, err error) {
	switch {
	case !json.Valid(message):
		return r, errNotJSON
	case !exactjson.IsObject(message):
		return r, errNoRequest
	}
	var m [3]exactjson.Member
	exactjson.Read(message, requestNames, m[:])
	action, ref, body := m[0], m[1], m[2]
	r.body, r.badRef = body.Value, !isRef(ref.Value)
	if !r.badRef && !ref.Ambiguous {
		r.ref = ref.Value
	}
	if action.Value == nil { // the application's own, whatever else is in it
		return r, nil
	}
	name, err := exactjson.String(action.Value)
	switch {
	case err != nil:
		return r, errNoRequest
	case action.Ambiguous || name != "" && (ref.Ambiguous || body.Ambiguous):
		return r, errTwoWays
	}
	r.action = shared.Action(name)
	return r, nil
}

func isRef(ref []byte) bool {
	return len(ref) == 0 || len(ref) <= maxRefBytes && bytes.IndexByte([]byte(`"-0123456789`), ref[0]) >= 0
}

// readSecret reads the body of a request, which has maxBytes at most.
func readSecret(body []byte, maxBytes int) (string, error) {
	secret, err := exactjson.String(body)
	if err != nil || len(body) == 0 || body[0] != '"' || len(secret) > maxBytes {
		return "", &refusal{code: codeBadMessage, message: fmt.Sprintf("the body of a secret is a string of at most %d bytes", maxBytes)}
	}
	return secret, nil
}

// requestKey is a key in a request.
type requestKey struct {
	shared.EntityKey
	version  string
	snapshot bool
}

// What is said of a key, on the classic wire without the last.
var keyNames = []string{"entity", "id", "snapshot", "version"}

// readKey reads a key, of which as much as the names say is read. snapshot is what
// counts where the key does not say.
func readKey(object []byte, names []string, snapshot bool) (k requestKey, err error) {
	if !exactjson.IsObject(object) {
		return k, errBadKeys
	}
	var m [4]exactjson.Member
	exactjson.Read(object, names, m[:])
	for i := range m {
		if m[i].Ambiguous {
			return k, errTwoWays
		}
	}
	entity, err1 := keyText(m[0].Value)
	id, err2 := keyText(m[1].Value)
	version, err3 := keyText(m[3].Value)
	k = requestKey{EntityKey: shared.EntityKey{Entity: shared.EntityType(entity), ID: id}, version: version, snapshot: snapshot}
	if m[2].Has() {
		switch string(m[2].Value) {
		case "true":
			k.snapshot = true
		case "false":
			k.snapshot = false
		default:
			return k, errBadKeys
		}
	}
	if err1 != nil || err2 != nil || err3 != nil {
		return k, errBadKeys
	}
	return k, nil
}

// noText is in no key.
const noText = "\xff"

// keyText reads a text. One with what is no character in it is some text that no key
// has, so that only its own key is refused.
func keyText(value []byte) (string, error) {
	text, err := exactjson.String(value)
	if errors.Is(err, exactjson.ErrNoCharacter) {
		return noText, nil
	}
	return text, err
}

// readKeys reads one key or a list of them.
func readKeys(body []byte) (keys []requestKey, err error) {
	if !exactjson.IsList(body) {
		key, err := readKey(body, keyNames, true)
		return []requestKey{key}, err
	}
	for element := range exactjson.Elements(body) {
		if string(element) == "null" { // a key without anything in it, and refused as such
			element = []byte("{}")
		}
		key, err := readKey(element, keyNames, true)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errBadKeys
	}
	return keys, nil
}
