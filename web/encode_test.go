package web

import (
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/events"
	"github.com/entity-sync/entity-sync/internal/testkit/docs"
	"github.com/entity-sync/entity-sync/shared"
)

// What the engine has to say is said as the document shows it.
func TestWhatTheEngineSaysIsInTheDocument(t *testing.T) {
	shown := make(map[string]bool)
	for _, line := range docs.Lines(t, "docs/protocol.md", "json server") {
		shown[line] = true
	}
	version, err := bridge.ParseVersion("tp0ICeR8Qa1mYIZhG2hZnw")
	if err != nil {
		t.Fatal(err)
	}
	event, err := shared.NewEvent(shared.EventFields{
		ID: "3OPKYIJFCGQWBQZ4-8", Source: "/news/uk/london", Type: "event",
		Time: time.Date(2025, 11, 30, 8, 6, 40, 5e8, time.UTC), Data: []byte(`{"title":"fog"}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	key := func(id string) shared.EntityKey { return shared.EntityKey{Entity: "items", ID: id} }
	s, conn := still(Config{})
	s.sayExpiring(30 * time.Second)
	s.out.End(nil)
	s.out.Wait()
	said := map[string][]byte{
		"rows":      onV2.Encode(&bridge.Update{Key: key("100"), Kind: bridge.KindRows, Version: version, Rows: [][]byte{[]byte(`{"id":"100","name":"hammer"}`)}}),
		"current":   onV2.Encode(&bridge.Update{Key: key("101"), Kind: bridge.KindCurrent, Version: version}),
		"deleted":   onV2.Encode(&bridge.Update{Key: key("100"), Kind: bridge.KindDeleted}),
		"forbidden": onV2.Encode(&bridge.Update{Key: key("100"), Kind: bridge.KindForbidden}),
		"stale":     onV2.Freshness(false),
		"fresh":     onV2.Freshness(true),
		"expiring":  conn.written,
		"event":     onV2.EncodeEvent(&events.Delivery{Topic: "news.uk.london", Context: []shared.Topic{"news.uk", "news"}, Event: event}),
		"gap":       onV2.Gap("news", 37),
		"some gap":  onV2.Gap("news", 0),
	}
	for what, frames := range said {
		messages := payloads(t, frames)
		if len(messages) != 1 || !shown[string(messages[0])] {
			t.Errorf("%s is said as %q, which the document does not show", what, messages)
		}
	}
	for what, frames := range map[string][]byte{
		"deleted": onClassic.Encode(&bridge.Update{Key: key("100"), Kind: bridge.KindDeleted}), "stale": onClassic.Freshness(false), "fresh": onClassic.Freshness(true),
	} {
		if frames != nil {
			t.Errorf("the classic wire has words for %s: %q", what, frames)
		}
	}
}

func TestFramingAnUpdateAllocatesOnce(t *testing.T) {
	u := &bridge.Update{Rows: [][]byte{[]byte("one"), []byte("two")}}
	if n := testing.AllocsPerRun(100, func() { onClassic.Encode(u) }); n != 1 {
		t.Errorf("%v allocations to encode an update, want 1", n)
	}
	u.Encoded(onClassic)
	if n := testing.AllocsPerRun(100, func() { u.Encoded(onClassic) }); n != 0 {
		t.Errorf("%v allocations for each further recipient, want 0", n)
	}
}
