package feed

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/entity-sync/entity-sync/internal/exactjson"
	"github.com/entity-sync/entity-sync/shared"
)

// maxMessageBytes keeps one bus message far below any usual --max-msg-size of an nsqd,
// however many keys changed.
const maxMessageBytes = 8 << 10

// message is one message on the bus: the keys of one entity type that changed, never
// their rows, or the texts of another topic. With one key it is {"entity","id"}, which any
// program may publish; with several, {"entity","ids":[…]}. On a Stream it is
// {"entity","records":[…]}, of any JSON.
//
// Nodes add their name and the number of the message, counted from 1 for each topic, so that
// other nodes notice a loss. A message with a number and no id is a beat: its number is the
// last that its sender has used. Unknown members are ignored: a node of another version may
// send them.
type message struct {
	Entity shared.EntityType `json:"entity"`
	ID     string            `json:"id,omitempty"`
	IDs    []string          `json:"ids,omitempty"`

	Records []json.RawMessage `json:"records,omitempty"` // of a Stream

	From  string `json:"from,omitempty"`
	Seq   uint64 `json:"seq,omitempty"`
	Skip  uint64 `json:"skip,omitempty"`  // of a Stream: how many numbers before this one the bus has refused
	At    int64  `json:"at,omitempty"`    // when it was published, in milliseconds since 1970
	Trace string `json:"trace,omitempty"` // W3C traceparent of the span that published it
}

func (m message) isBeat() bool { return m.ID == "" && len(m.IDs) == 0 && len(m.Records) == 0 }

func messageOf(topic shared.EntityType, ids []string) message {
	if len(ids) == 1 {
		return message{Entity: topic, ID: ids[0]}
	}
	return message{Entity: topic, IDs: ids}
}

// fitting returns how many of the ids fit into room bytes: one at least.
func fitting(ids []string, room int) (n int) {
	for size := 0; n < len(ids) && (n == 0 || size+len(ids[n]) < room); n++ {
		size += len(ids[n]) + len(`"",`)
	}
	return n
}

// sizeOf returns how many bytes the ids take in a message.
func sizeOf(ids []string) (size int) {
	for _, id := range ids {
		size += len(id) + len(`"",`)
	}
	return size
}

func (m message) encode() ([]byte, error) {
	if body, plain := encodeFast(m); plain {
		return body, nil
	}
	return m.encodeSlow()
}

// encodeSlow does not escape '<', '>' and '&', which no bus cares about: escaped they would
// take six bytes each.
func (m message) encodeSlow() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(m); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// These bound what a node remembers of a sender, which may be anybody. A traceparent has 55
// bytes.
const (
	maxFromBytes  = 64
	maxTraceBytes = 64
)

var errNotAMessage = errors.New("want an object with an entity and an id, or ids, or records, or a number and its sender")

// decodeMessage reads a body from a topic. Any program may publish to a topic, so nothing in
// the body is trusted: a message that names another topic is refused.
func decodeMessage(topic shared.EntityType, body []byte) (message, error) {
	m, fast := decodeFast(string(body))
	if !fast {
		var err error
		if m, err = decodeSlow(body); err != nil {
			return m, fmt.Errorf("decoding a notification: %w", err)
		}
	}
	if m.Entity == "" || m.isBeat() && (m.From == "" || m.Seq == 0) || len(m.From) > maxFromBytes {
		return m, errNotAMessage
	}
	if m.Entity != topic {
		return m, fmt.Errorf("the topic of %q carried a notification of %q", topic, m.Entity)
	}
	if len(m.Trace) > maxTraceBytes {
		m.Trace = ""
	}
	return m, nil
}

// The first six decide what a message does. The others are ignored if they cannot be read.
var messageNames = []string{"entity", "id", "ids", "records", "from", "seq", "at", "trace", "skip"}

// decodeSlow reads a body strictly: it refuses a body that other programs may read in
// another way, and an id that cannot be told from other ids. It takes members that are only
// for information whatever they hold.
func decodeSlow(body []byte) (m message, err error) {
	if !json.Valid(body) || !exactjson.IsObject(body) {
		return m, errNotAMessage
	}
	var in [9]exactjson.Member
	exactjson.Read(body, messageNames, in[:])
	for i := range in[:6] {
		if in[i].Ambiguous {
			return m, fmt.Errorf("%q is there twice, or in another case", messageNames[i])
		}
	}
	entity, err1 := exactjson.String(in[0].Value)
	id, err2 := exactjson.String(in[1].Value)
	ids, err3 := decodeIDs(&in[2])
	records, err4 := decodeRecords(&in[3])
	from, err5 := exactjson.String(in[4].Value)
	m = message{Entity: shared.EntityType(entity), ID: id, IDs: ids, Records: records, From: from}
	var err6 error
	if in[5].Has() {
		m.Seq, err6 = strconv.ParseUint(string(in[5].Value), 10, 64)
	}
	if at, err := strconv.ParseInt(string(in[6].Value), 10, 64); err == nil && at > 0 {
		m.At = at
	}
	m.Trace, _ = exactjson.String(in[7].Value)
	if skip, err := strconv.ParseUint(string(in[8].Value), 10, 64); err == nil && skip < m.Seq {
		m.Skip = skip
	}
	return m, errors.Join(err1, err2, err3, err4, err5, err6)
}

// decodeRecords returns copies: the body is the bus's.
func decodeRecords(m *exactjson.Member) (records []json.RawMessage, err error) {
	if !m.Has() {
		return nil, nil
	}
	if !exactjson.IsList(m.Value) {
		return nil, errNotAMessage
	}
	for record := range exactjson.Elements(bytes.Clone(m.Value)) {
		records = append(records, record)
	}
	return records, nil
}

func decodeIDs(m *exactjson.Member) (ids []string, err error) {
	if !m.Has() {
		return nil, nil
	}
	if !exactjson.IsList(m.Value) {
		return nil, errNotAMessage
	}
	for element := range exactjson.Elements(m.Value) {
		id, err := exactjson.String(element)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// each yields every id of the message.
func (m message) each(yield func(id string) bool) {
	if m.ID != "" && !yield(m.ID) {
		return
	}
	for _, id := range m.IDs {
		if !yield(id) {
			return
		}
	}
}
