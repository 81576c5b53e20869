package wire

import (
	"bytes"
	"encoding/json"
	"slices"
	"unicode/utf8"

	"github.com/entity-sync/entity-sync/shared"
)

// V2 is the wire on which each message says what it is about: rows come with their key and
// version, requests are acknowledged, refusals have a code.
type V2 struct{}

var _ Appender = V2{}

// Name implements Wire.
func (V2) Name() string { return SubprotocolV2 }

// Request implements Wire.
func (w V2) Request(message []byte, o Options) (Request, error) {
	e, err := readEnvelope(message)
	r := Request{Action: e.action, Ref: e.ref}
	switch {
	case err != nil:
	case e.badRef && e.action == "":
		r.Unclaimed = errBadRef
	case e.badRef:
		err = errBadRef
	default:
		err = w.readBody(&r, e.body, o)
	}
	return r, withRef(err, r.Ref)
}

func (V2) readBody(r *Request, body []byte, o Options) (err error) {
	switch r.Action {
	case "":
		r.Unclaimed = errNoAction.WithRef(r.Ref)
	case ActionSecret:
		r.Secret, err = readSecret(body, o.MaxSecretBytes)
	case ActionSubscribe, ActionUnsubscribe:
		r.Targets, err = readTargets(body)
	case ActionPublish:
		r.Publication, err = readPublication(body)
	default:
		err = errNoSuch
	}
	return err
}

// v2Frame is a message of a node. The action decides which fields are there.
type v2Frame struct {
	Action Action          `json:"action"`
	Ref    json.RawMessage `json:"ref,omitempty"`
	Body   *v2Body         `json:"body,omitempty"`
}

type v2Body struct {
	Entity  shared.EntityType `json:"entity,omitempty"`
	ID      string            `json:"id,omitempty"`
	Topic   shared.Topic      `json:"topic,omitempty"`
	Missed  uint64            `json:"missed,omitempty"`
	Index   *int              `json:"index,omitempty"`
	Version string            `json:"version,omitempty"`
	Code    Code              `json:"code,omitempty"`
	Message string            `json:"message,omitempty"`
	Seconds int               `json:"seconds,omitempty"`
}

// Reply implements Wire.
func (w V2) Reply(r Reply) [][]byte { return [][]byte{w.Append(nil, r)} }

// Append implements Appender. Messages with rows, which are made for every change, are encoded
// by hand, in a quarter of the time that reflection takes.
func (V2) Append(b []byte, r Reply) []byte {
	switch r.Action {
	case ActionUpdate:
		return appendRows(b, r)
	case ActionEvent:
		return appendEvent(b, r)
	}
	f := v2Frame{Action: r.Action, Ref: r.Ref}
	body := v2Body{r.Key.Entity, r.Key.ID, r.Topic, r.Missed, r.Index, r.Version, r.Code, r.Message, r.Seconds}
	if body != (v2Body{}) {
		f.Body = &body
	}
	// Encoding cannot fail: refs are valid JSON from the client.
	return append(b, encode(f)...)
}

// encode returns v as JSON without the escapes that are for HTML only.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// appendRows appends the message that encoding a v2Frame would make, with the rows as they
// are.
func appendRows(b []byte, r Reply) []byte {
	size := 128 + len(r.Key.Entity) + 2*len(r.Key.ID) + len(r.Version) + len(r.Rows)
	for _, row := range r.Rows {
		size += len(row)
	}
	b = slices.Grow(b, size)
	b = append(b, `{"action":"update","body":{"entity":`...)
	b = appendString(b, string(r.Key.Entity))
	b = append(b, `,"id":`...)
	b = appendString(b, r.Key.ID)
	b = append(b, `,"version":"`...)
	b = append(b, r.Version...)
	b = append(b, '"')
	for i, row := range r.Rows {
		if i == 0 {
			b = append(b, `,"rows":[`...)
		} else {
			b = append(b, ',')
		}
		b = append(b, asJSON(row)...)
	}
	if len(r.Rows) > 0 {
		b = append(b, ']')
	}
	return append(b, "}}"...)
}

// appendEvent appends the message of an event, which stands in it as it is.
func appendEvent(b []byte, r Reply) []byte {
	size := 64 + len(r.Topic) + len(r.Event)
	for _, topic := range r.Context {
		size += len(topic) + len(`"",`)
	}
	b = slices.Grow(b, size)
	b = append(b, `{"action":"event","body":{"topic":`...)
	b = appendString(b, string(r.Topic))
	b = append(b, `,"context":[`...)
	for i, topic := range r.Context {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, string(topic))
	}
	b = append(b, `],"event":`...)
	b = append(b, r.Event...)
	return append(b, "}}"...)
}

// appendString appends s as JSON.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			quoted, _ := json.Marshal(s) // a string can always be encoded
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// asJSON returns a row as it is, or as a JSON string if it is some other text.
func asJSON(row []byte) json.RawMessage {
	if json.Valid(row) {
		return row
	}
	quoted, err := json.Marshal(string(row))
	if err != nil { // a string can always be encoded
		return json.RawMessage("null")
	}
	return quoted
}
