package events_test

import (
	"encoding/json"
	"testing"

	"github.com/entity-sync/entity-sync/bridge/events"
	"github.com/entity-sync/entity-sync/shared"
)

// A publication allocates no more for a thousand recipients than for one.
func TestRecipientsCostNoAllocation(t *testing.T) {
	e, err := shared.NewEvent(shared.EventFields{ID: "1", Source: "/test", Type: "t", Data: json.RawMessage(`{"n":1}`)})
	if err != nil {
		t.Fatal(err)
	}
	allocations := func(recipients int) float64 {
		h, s := benchmarkHub(t), &sink{done: make(chan struct{}, 1)}
		for range recipients {
			subscribe(t, h, s, "here.a")
		}
		return testing.AllocsPerRun(50, func() {
			s.left.Store(int64(recipients))
			if err := h.Publish(t.Context(), events.Publication{Topics: []shared.Topic{"here.a"}, Event: e}); err != nil {
				t.Fatal(err)
			}
			<-s.done
		})
	}
	// The race detector has pools forget at random, so some allocations come and go.
	if one, thousand := allocations(1), allocations(1000); thousand > one+100 {
		t.Errorf("%v allocations for 1 recipient and %v for 1,000", one, thousand)
	}
}
