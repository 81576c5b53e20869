package events_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/bridge/events"
	"github.com/entity-sync/entity-sync/shared"
)

// BenchmarkPublishBesideOthers compares the processor time of a publication on a hub that has
// one subscriber with that on a hub that has 50,000 more on another channel. The two hubs take
// turns of 2,000 publications.
func BenchmarkPublishBesideOthers(b *testing.B) {
	e, err := shared.NewEvent(shared.EventFields{ID: "1", Source: "/bench", Type: "t", Data: json.RawMessage(`{"n":1}`)})
	if err != nil {
		b.Fatal(err)
	}
	s := &sink{done: make(chan struct{}, 1)}
	hubs := [2]*events.Hub{benchmarkHub(b), benchmarkHub(b)}
	for _, h := range hubs {
		subscribe(b, h, s, "here.a")
	}
	for n := range 50_000 {
		subscribe(b, hubs[1], s, shared.Topic(fmt.Sprint("there.", n)))
	}
	turn := func(h *events.Hub) time.Duration {
		before := processorTime(b)
		for range 2000 {
			s.left.Store(1)
			if err := h.Publish(b.Context(), events.Publication{Topics: []shared.Topic{"here.a"}, Event: e}); err != nil {
				b.Fatal(err)
			}
			<-s.done
		}
		return processorTime(b) - before
	}
	var ratios []float64
	for b.Loop() {
		alone, beside := turn(hubs[0]), turn(hubs[1])
		ratios = append(ratios, float64(beside)/float64(alone))
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "ratio-median")
	b.ReportMetric(ratios[len(ratios)/10], "ratio-p10")
	b.ReportMetric(ratios[len(ratios)*9/10], "ratio-p90")
}

func processorTime(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
