package load

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/entity-sync/entity-sync/bench/workload"
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
		return "entity-sync.v2"
	}
	return ""
}

// identify returns the message with which a client says who it is. On v2 that is
// answered.
func (w Wire) identify(secret string) string {
	return fmt.Sprintf(`{"action":"secret","ref":0,"body":%q}`, secret)
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
		for begin := 0; begin < len(keys); begin += keysInMessage {
			var list []string
			for n := begin; n < min(begin+keysInMessage, len(keys)); n++ {
				version := ""
				if versions[n] != "" {
					version = fmt.Sprintf(`,"version":%q`, versions[n])
				}
				list = append(list, fmt.Sprintf(`{"entity":%q,"id":%q%s}`, workload.Entity, workload.ID(keys[n]), version))
			}
			messages = append(messages, `{"action":"subscribe","ref":1,"body":[`+strings.Join(list, ",")+`]}`)
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

// The beginnings of messages that are answers.
var (
	v2Ack     = []byte(`{"action":"ack"`)
	v2Current = []byte(`{"action":"current"`)
	v2Update  = []byte(`{"action":"update"`)
	v2Error   = []byte(`{"action":"error"`)
)

// count returns how many answers are in a message, and an error where something
// was refused.
func (w Wire) count(message []byte) (answers int, err error) {
	switch w {
	case Silent:
		if bytes.HasPrefix(message, v2Ack) {
			answers = 1
		}
	case V2:
		switch {
		case bytes.HasPrefix(message, v2Ack), bytes.HasPrefix(message, v2Current), bytes.HasPrefix(message, v2Update):
			answers = 1
		case bytes.HasPrefix(message, v2Error):
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
	if w != V2 || !bytes.HasPrefix(message, v2Update) {
		return 0, "", false
	}
	var m struct {
		Body struct{ ID, Version string }
	}
	if json.Unmarshal(message, &m) != nil {
		return 0, "", false
	}
	key, err := workload.KeyOf(m.Body.ID)
	return key, m.Body.Version, err == nil
}
