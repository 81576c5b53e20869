package events

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/entity-sync/entity-sync/internal/encoded"
	"github.com/entity-sync/entity-sync/internal/exactjson"
	"github.com/entity-sync/entity-sync/internal/feed"
	"github.com/entity-sync/entity-sync/shared"
)

// message is an event on its way to clients.
type message struct {
	topics    []shared.Topic
	event     shared.Event
	publisher string // the node; empty for a program that is not a node
	except    uint64 // number of the client of this node that is not to hear the event; zero for none
	latest    bool   // see Delivery.Latest
	fence     bool   // see Delivery.Fence
	arrived   time.Time
}

// isNotFor reports whether the event is the client's own, which it is not to hear.
func (m *message) isNotFor(c *Client) bool { return m.except != 0 && c.number == m.except }

// Delivery is an event for clients whose subscriptions match it in the same way. It is built
// once and shared, read-only.
type Delivery struct {
	// Topic is what the event was published to.
	Topic shared.Topic

	// Context is the client's subscriptions that match, the most special one first.
	Context []shared.Topic

	Event shared.Event

	// Latest says that the event takes the place of one of the same Topic that waits.
	Latest bool

	// Fence says that no later event takes the place of one that waits before this one, as the
	// later event would overtake this one. It is so of an event of several topics, one of them
	// in a channel with Latest.
	Fence bool

	encodings encoded.Cache[Encoder]
}

// Encoder turns a Delivery into what one kind of client reads. It is compared, so use a pointer
// or an empty struct.
type Encoder interface {
	EncodeEvent(d *Delivery) []byte
}

// Encoded returns by.EncodeEvent(d), computed once per encoder however many clients ask. The
// result is shared: read only.
func (d *Delivery) Encoded(by Encoder) []byte {
	return d.encodings.Get(by, func() []byte { return by.EncodeEvent(d) })
}

// On the bus an event is {"topic":"news.uk","event":{…}}, or with several topics
// {"topic":["a","b"],"event":{…}}. "not" is the number of a client of the publishing node that
// is not to hear it.
var recordNames = []string{"topic", "event", "not"}

func encodeRecord(topics []shared.Topic, e shared.Event, except uint64) (json.RawMessage, error) {
	var topic any = topics
	if len(topics) == 1 {
		topic = topics[0]
	}
	name, err := json.Marshal(topic)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, 48+len(name)+len(e.JSON()))
	b = append(append(b, `{"topic":`...), name...)
	b = append(append(b, `,"event":`...), e.JSON()...)
	if except != 0 {
		b = strconv.AppendUint(append(b, `,"not":`...), except, 10)
	}
	return append(b, '}'), nil
}

// decode reads a record from the bus. Anybody may publish to a bus, so nothing in it is trusted.
func (h *Hub) decode(r feed.Record) (*message, error) {
	if !exactjson.IsObject(r.Text) {
		return nil, shared.ErrBadEvent
	}
	var in [3]exactjson.Member
	exactjson.Read(r.Text, recordNames, in[:])
	for i := range in {
		if in[i].Ambiguous {
			return nil, shared.ErrBadEvent
		}
	}
	topics, err := decodeTopics(&in[0])
	if err != nil {
		return nil, err
	}
	e, err := shared.ParseEvent(in[1].Value)
	if err != nil {
		return nil, err
	}
	m := &message{topics: topics, event: e, publisher: r.From, arrived: time.Now()}
	if r.From == h.config.Node && in[2].Has() {
		m.except, _ = strconv.ParseUint(string(in[2].Value), 10, 64)
	}
	return m, nil
}

func decodeTopics(m *exactjson.Member) (topics []shared.Topic, err error) {
	values := [][]byte{m.Value}
	if m.Value != nil && exactjson.IsList(m.Value) {
		values = slices.Collect(exactjson.Elements(m.Value))
	}
	for _, value := range values {
		name, err := exactjson.String(value)
		if err != nil {
			return nil, err
		}
		topics = append(topics, shared.Topic(name))
	}
	return topics, validateTopics(topics)
}
