package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/entity-sync/entity-sync/internal/exactjson"
	"github.com/entity-sync/entity-sync/shared"
)

// The functions below are the client's end of the v2 wire.

// SecretRequest returns the message that says who the client is.
func SecretRequest(ref int, secret string) []byte {
	return fmt.Appendf(nil, `{"action":"secret","ref":%d,"body":%s}`, ref, encode(secret))
}

// KeyText returns a key as it stands in a request, with the version of the client's rows. It
// asks for a snapshot, which on this wire is what a key asks for unless it says otherwise.
func KeyText(k Key) []byte {
	return encode(struct {
		shared.EntityKey
		Version string `json:"version,omitempty"`
	}{k.EntityKey, k.Version})
}

// TopicText returns a topic as it stands in a request.
func TopicText(t Target) []byte {
	return encode(struct {
		Topic shared.Topic `json:"topic"`
		Exact bool         `json:"exact,omitempty"`
		After string       `json:"after,omitempty"`
	}{t.Topic, t.Exact, t.After})
}

// PublishRequest returns the message that publishes an event. If there is data and no event,
// the node makes an event of the data.
func PublishRequest(ref int, p Publication) []byte {
	var topic any = p.Topics
	if len(p.Topics) == 1 {
		topic = p.Topics[0]
	}
	var echo *bool
	if p.NoEcho {
		echo = new(bool)
	}
	return encode(struct {
		Action Action `json:"action"`
		Ref    int    `json:"ref"`
		Body   any    `json:"body"`
	}{ActionPublish, ref, struct {
		Topic any             `json:"topic"`
		Event json.RawMessage `json:"event,omitempty"`
		Data  json.RawMessage `json:"data,omitempty"`
		Echo  *bool           `json:"echo,omitempty"`
	}{topic, p.Event, p.Data, echo}})
}

// keysOverhead is more than the bytes of a request besides its keys and topics.
const keysOverhead = 80

// KeysRequest returns the message that requests action for several keys, which KeyText has
// returned.
func KeysRequest(action Action, ref int, keys [][]byte) []byte {
	return fmt.Appendf(nil, `{"action":%q,"ref":%d,"body":[%s]}`, action, ref, bytes.Join(keys, []byte(",")))
}

// Fitting returns how many of the keys go into one message of at most limit bytes:
// one at least.
func Fitting(keys [][]byte, limit int) int {
	size := keysOverhead
	for i, key := range keys {
		if size += len(key) + 1; size > limit && i > 0 {
			return i
		}
	}
	return len(keys)
}

// IsOwn reports whether a node takes a message for one of the application's own: an object
// that names no action.
func IsOwn(message []byte) bool {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(message, &m); err != nil || m == nil {
		return false
	}
	_, has := m["action"]
	return !has
}

var (
	replyNames = []string{"action", "ref", "body"}
	bodyNames  = []string{"entity", "id", "version", "rows", "code", "message", "index", "seconds", "topic", "context", "event", "missed"}
)

// ReadReply reads a message from a node. A message that is no reply of the wire is the
// application's own. So is a message that can be read in two ways, because no node sends such
// a reply. The rows are parts of the message.
func ReadReply(message []byte) (r Reply, ok bool) {
	if !json.Valid(message) || !exactjson.IsObject(message) {
		return Reply{}, false
	}
	var m [3]exactjson.Member
	exactjson.Read(message, replyNames, m[:])
	if !r.readBody(m[2].Value) || m[0].Ambiguous || m[1].Ambiguous || m[2].Ambiguous {
		return Reply{}, false
	}
	action, err := exactjson.String(m[0].Value)
	if err != nil {
		return Reply{}, false
	}
	r.Action, r.Ref = Action(action), m[1].Value
	if !r.isWhole() {
		return Reply{}, false
	}
	return r, true
}

// readBody returns false if the body can be read in two ways, or not at all.
func (r *Reply) readBody(body []byte) bool {
	var m [12]exactjson.Member
	switch {
	case exactjson.IsObject(body):
		exactjson.Read(body, bodyNames, m[:])
	case body != nil && string(body) != "null":
		return false
	}
	for i := range m {
		if m[i].Ambiguous {
			return false
		}
	}
	for i, text := range [...]*string{0: (*string)(&r.Key.Entity), 1: &r.Key.ID, 2: &r.Version, 4: (*string)(&r.Code), 5: &r.Message, 8: (*string)(&r.Topic)} {
		if text == nil {
			continue
		}
		var err error
		if *text, err = exactjson.String(m[i].Value); err != nil {
			return false
		}
	}
	if m[3].Has() {
		if !exactjson.IsList(m[3].Value) {
			return false
		}
		for row := range exactjson.Elements(m[3].Value) {
			r.Rows = append(r.Rows, row)
		}
	}
	if m[6].Has() {
		i, err := strconv.Atoi(string(m[6].Value))
		if err != nil {
			return false
		}
		r.Index = &i
	}
	r.Seconds, _ = strconv.Atoi(string(m[7].Value))
	r.Missed, _ = strconv.ParseUint(string(m[11].Value), 10, 64)
	r.Event = m[10].Value
	return r.readContext(&m[9])
}

func (r *Reply) readContext(m *exactjson.Member) bool {
	if !m.Has() {
		return true
	}
	if !exactjson.IsList(m.Value) {
		return false
	}
	for value := range exactjson.Elements(m.Value) {
		topic, err := exactjson.String(value)
		if err != nil {
			return false
		}
		r.Context = append(r.Context, shared.Topic(topic))
	}
	return true
}

// isWhole reports whether the reply has all that its action requires.
func (r *Reply) isWhole() bool {
	switch r.Action {
	case ActionAck, ActionStale, ActionFresh, ActionExpiring:
		return true
	case ActionUpdate:
		return r.Key.Validate() == nil && len(r.Rows) > 0
	case ActionCurrent, ActionDelete:
		return r.Key.Validate() == nil
	case ActionUnsubscribed:
		return (r.Topic != "" || r.Key.Validate() == nil) && r.Code != ""
	case ActionEvent:
		return r.Topic != "" && len(r.Context) > 0 && exactjson.IsObject(r.Event)
	case ActionGap:
		return r.Topic != ""
	case ActionError: // not all of them are about a key
		return r.Code != ""
	default:
		return false
	}
}

// ActionOf returns the action of a reply as nodes write it, without reading more of the
// message. It is empty if the message is written in another way.
func ActionOf(message []byte) Action {
	rest, ok := bytes.CutPrefix(message, []byte(`{"action":"`))
	if end := bytes.IndexByte(rest, '"'); ok && end >= 0 {
		return Action(rest[:end])
	}
	return ""
}

// ReadHead reads the action and the key of a reply from the beginning of the message, as far
// as that goes.
func ReadHead(head []byte) (action Action, key shared.EntityKey) {
	d := json.NewDecoder(bytes.NewReader(head))
	if t, _ := d.Token(); t != json.Delim('{') {
		return "", key
	}
	inBody := false
	for {
		name, err := d.Token()
		if err != nil {
			return action, key
		}
		value, err := d.Token()
		if err != nil {
			return action, key
		}
		text, isText := value.(string)
		switch {
		case !inBody && name == "body" && value == json.Delim('{'):
			inBody = true
		case !inBody && name == "action":
			action = Action(text)
		case inBody && name == "entity":
			key.Entity = shared.EntityType(text)
		case inBody && name == "id":
			key.ID = text
		case !isText && value == json.Delim('[') || value == json.Delim('{') || name == json.Delim('}'):
			return action, key // the rows follow, or something that no node sends there
		}
	}
}
