package client

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/entity-sync/entity-sync/shared"
)

// keyBody is a key in a request.
type keyBody struct {
	shared.EntityKey
	Version string `json:"version,omitempty"`
}

// encode returns v as JSON without the escapes that are for HTML only.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil // strings can always be encoded
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// secretRequest says who the client is.
func secretRequest(ref int, secret shared.Secret) []byte {
	return fmt.Appendf(nil, `{"action":"secret","ref":%d,"body":%s}`, ref, encode(secret.Reveal()))
}

// keysOverhead is more than a request has besides its keys.
const keysOverhead = 80

// keysRequest asks for something about several keys.
func keysRequest(action shared.Action, ref int, keys [][]byte) []byte {
	return fmt.Appendf(nil, `{"action":%q,"ref":%d,"body":[%s]}`, action, ref, bytes.Join(keys, []byte(",")))
}

// fitting returns how many of the keys go into one message of at most limit bytes:
// one at least.
func fitting(keys [][]byte, limit int) int {
	size := keysOverhead
	for i, key := range keys {
		if size += len(key) + 1; size > limit && i > 0 {
			return i
		}
	}
	return len(keys)
}

// isOwn reports whether a server takes a message to be the application's own: an
// object that names no action.
func isOwn(message []byte) bool {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(message, &m); err != nil || m == nil {
		return false
	}
	_, has := m["action"]
	return !has
}
