package wire

import (
	"errors"

	"github.com/entity-sync/entity-sync/internal/exactjson"
)

// Classic is the wire of clients that ask for no subprotocol: each row is one text message, as
// the fetch handler wrote it, and the node sends nothing else.
type Classic struct{}

var _ Wire = Classic{}

// Name implements Wire.
func (Classic) Name() string { return "classic" }

// Reply implements Wire.
func (Classic) Reply(r Reply) [][]byte { return r.Rows }

// Request implements Wire.
func (Classic) Request(message []byte, o Options) (r Request, err error) {
	e, err := readEnvelope(message)
	switch {
	case errors.Is(err, errNotJSON):
		return r, err
	case !exactjson.IsObject(message):
		return r, nil // a message of the application's own
	case err != nil:
		return r, err
	}
	r.Action = e.action
	switch r.Action {
	case "":
	case ActionSecret:
		r.Secret, err = readSecret(e.body, o.MaxSecretBytes)
	case ActionSubscribe, ActionUnsubscribe:
		var k Key
		k, err = readKey(e.body, keyNames[:3], false)
		k.Snapshot = k.Snapshot || o.Snapshot
		r.Targets = []Target{{Key: k}}
	default:
		err = errNoSuch
	}
	return r, err
}
