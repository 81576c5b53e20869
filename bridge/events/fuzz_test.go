package events

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/entity-sync/entity-sync/internal/feed"
	"github.com/entity-sync/entity-sync/shared"
)

// FuzzDecodeRecord: no record of a message that is JSON breaks the decoder. What the decoder accepts is an event
// for topics that events can be published to, and is read again as a node writes it.
func FuzzDecodeRecord(f *testing.F) {
	const event = `{"specversion":"1.0","id":"1","source":"/s","type":"t"`
	for _, text := range []string{
		`{"topic":"news.uk","event":` + event + `}}`, `{"topic":["a","b"],"event":` + event + `,"data":[{}]},"not":7}`,
		`{"topic":"*","event":` + event + `}}`, `{"topic":["a","a"],"event":` + event + `}}`, `{"topic":[],"event":` + event + `}}`,
		`{"Topic":"a","topic":"a","event":` + event + `}}`, `{"topic":"a"}`, `{"topic":"\ud800","event":` + event + `}}`, `[]`, `null`, ``,
	} {
		f.Add([]byte(text))
	}
	h := &Hub{config: Config{Node: "this node"}}
	f.Fuzz(func(t *testing.T, text []byte) {
		if !json.Valid(text) {
			return // the feed has refused the message that the record is part of
		}
		m, err := h.decode(feed.Record{Text: text, From: "this node"})
		if err != nil {
			return
		}
		if m.event.IsZero() || len(m.topics) == 0 || len(m.topics) > shared.MaxEventTopics {
			t.Fatalf("%q is read as the event %s for %q", text, m.event.JSON(), m.topics)
		}
		seen := make(map[shared.Topic]bool)
		for _, topic := range m.topics {
			if err := topic.Validate(); err != nil || seen[topic] {
				t.Errorf("%q is an event for %q: %v", text, m.topics, err)
			}
			seen[topic] = true
		}
		record, err := encodeRecord(m.topics, m.event, m.except)
		if err != nil {
			t.Fatal(err)
		}
		again, err := h.decode(feed.Record{Text: record, From: "this node"})
		if err != nil {
			t.Fatalf("%q is written as %s, which is refused: %v", text, record, err)
		}
		again.arrived = m.arrived
		if !reflect.DeepEqual(again, m) {
			t.Errorf("%q is read as %+v, and as %+v when a node has written it", text, m, again)
		}
	})
}
