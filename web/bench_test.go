package web

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/shared"
)

// aRow returns an update with one row of some 256 bytes, as the engine makes it.
func aRow(t testing.TB) *bridge.Update {
	t.Helper()
	b, err := bridge.New(bridge.Config{Bus: new(membus.Broker).NewNode(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close(context.Background())
	row, err := json.Marshal(map[string]any{"id": 100, "name": "a row of some length", "price": 12.5, "text": strings.Repeat("words ", 32)})
	if err != nil {
		t.Fatal(err)
	}
	fetch := func(context.Context, shared.EntityKey, string) ([][]byte, error) { return [][]byte{row}, nil }
	if err := b.Register("items", fetch, bridge.EntityOptions{}); err != nil {
		t.Fatal(err)
	}
	got := make(sink, 1)
	c := b.NewClient(got, bridge.ClientOptions{})
	defer c.Close()
	if err := c.Subscribe(shared.EntityKey{Entity: "items", ID: "100"}, bridge.SubscribeOptions{Snapshot: true}); err != nil {
		t.Fatal(err)
	}
	return <-got
}

// BenchmarkEncode is what it takes to make the frame that all clients of a view and
// a wire are sent.
func BenchmarkEncode(b *testing.B) {
	u := aRow(b)
	for name, encoder := range map[string]*encoder{"classic": onClassic, "v2": onV2} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				encoder.Encode(u)
			}
		})
	}
}
