package load

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/entity-sync/entity-sync/bench/workload"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/wire"
)

// Wire is what the clients speak.
type Wire string

// The wires.
const (
	Silent         Wire = "silent"  // says nothing; for the bare loop
	Classic        Wire = "classic" // Entity Sync's first one, and that of the hubs
	V2             Wire = "v2"
	CentrifugeWire Wire = "centrifuge"
)

// subprotocol is what the upgrade asks for.
func (w Wire) subprotocol() string {
	if w == V2 {
		return wire.SubprotocolV2
	}
	return ""
}

// identify returns the message with which a client says who it is. On v2 that is
// answered.
func (w Wire) identify(secret string) string {
	return string(wire.SecretRequest(0, secret))
}

// keysInMessage bounds the keys that are subscribed to with one message, where one
// can hold several: it is to have 32 KiB at most.
const keysInMessage = 500

// subscribe returns the messages with which a client begins to watch keys, given
// what it knows of them already, or nothing for each.
func (w Wire) subscribe(keys []int, versions []string, first bool) (messages []string) {
	switch w {
	case Silent:
		return nil
	case Classic:
		for _, key := range keys {
			messages = append(messages, fmt.Sprintf(`{"action":"subscribe","body":{"entity":%q,"id":%q}}`, workload.Entity, workload.ID(key)))
		}
		return messages
	case V2:
		var list [][]byte
		for n, key := range keys {
			list = append(list, wire.KeyText(wire.Key{EntityKey: shared.EntityKey{Entity: workload.Entity, ID: workload.ID(key)}, Version: versions[n]}))
		}
		for some := range slices.Chunk(list, keysInMessage) {
			messages = append(messages, string(wire.KeysRequest(wire.ActionSubscribe, 1, some)))
		}
		return messages
	case CentrifugeWire:
		var commands []string
		if first {
			commands = append(commands, `{"id":1,"connect":{}}`)
		}
		for _, key := range keys {
			commands = append(commands, fmt.Sprintf(`{"id":2,"subscribe":{"channel":%q}}`, workload.ID(key)))
		}
		for begin := 0; begin < len(commands); begin += keysInMessage {
			messages = append(messages, strings.Join(commands[begin:min(begin+keysInMessage, len(commands))], "\n"))
		}
		return messages
	default:
		return nil
	}
}

// answers is how many answers there are to what subscribe returned for so many keys:
// that they came means that the client is live. Where there are none, only the
// server can say.
func (w Wire) answers(keys int, first bool) int {
	switch w {
	case Silent:
		return 1 // the small frame after the upgrade
	case V2:
		return (keys+keysInMessage-1)/keysInMessage + keys // an acknowledgement each, and then the rows
	case CentrifugeWire:
		if first {
			return keys + 1
		}
		return keys
	default:
		return 0
	}
}

// count returns how many answers are in a message, and an error where something
// was refused.
func (w Wire) count(message []byte) (answers int, err error) {
	switch w {
	case Silent:
		if wire.ActionOf(message) == wire.ActionAck {
			answers = 1
		}
	case V2:
		switch wire.ActionOf(message) {
		case wire.ActionAck, wire.ActionCurrent, wire.ActionUpdate:
			answers = 1
		case wire.ActionError:
			err = fmt.Errorf("refused: %s", message)
		}
	case CentrifugeWire:
		for line := range bytes.Lines(message) {
			switch {
			case bytes.Contains(line, []byte(`"error"`)), bytes.Contains(line, []byte(`"disconnect"`)):
				err = fmt.Errorf("refused: %s", line)
			case bytes.HasPrefix(line, []byte(`{"id"`)):
				answers++
			}
		}
	}
	return answers, err
}

// centrifugePing is a message that centrifuge wants the same answer to. It may
// come in a frame with others, a line each.
const centrifugePing = "{}"

// pings reports whether there is such a ping in a message.
func (w Wire) pings(message []byte) bool {
	if w != CentrifugeWire {
		return false
	}
	for line := range bytes.Lines(message) {
		if string(bytes.TrimSpace(line)) == centrifugePing {
			return true
		}
	}
	return false
}

// version returns which key a message is about and what version of it the client
// has, if it says so.
func (w Wire) version(message []byte) (key int, version string, ok bool) {
	if w != V2 || wire.ActionOf(message) != wire.ActionUpdate {
		return 0, "", false
	}
	r, ok := wire.ReadReply(message)
	if !ok {
		return 0, "", false
	}
	key, err := workload.KeyOf(r.Key.ID)
	return key, r.Version, err == nil
}
