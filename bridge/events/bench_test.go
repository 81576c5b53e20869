package events_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/bridge/events"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/internal/feed"
	"github.com/entity-sync/entity-sync/shared"
)

// sink counts events, and says when the last that is waited for has come.
type sink struct {
	left atomic.Int64
	done chan struct{}
}

func (s *sink) Event(*events.Delivery) {
	if s.left.Add(-1) == 0 {
		s.done <- struct{}{}
	}
}
func (s *sink) Gap(shared.Topic, uint64) {}
func (s *sink) Retract(shared.Topic)     {}

func benchmarkHub(tb testing.TB) *events.Hub {
	var broker membus.Broker
	var sequence atomic.Uint64
	log := slog.New(slog.DiscardHandler)
	node := feed.NewNode(feed.Config{
		Bus: broker.NewNode(), PublishTimeout: time.Second, BeatInterval: time.Minute, Grace: time.Second,
		Position: sequence.Load, Logger: log,
	})
	h := events.New(events.Config{
		Stream: node.Stream("es.events"), Node: node.Name(), Logger: log,
		Sequence: func() uint64 { return sequence.Add(1) },
	})
	tb.Cleanup(func() {
		ctx := context.Background()
		if node.StopPublishing(ctx) != nil || h.Close(ctx) != nil || node.Close(ctx) != nil {
			tb.Error("the node did not close")
		}
	})
	for _, name := range []string{"here", "there"} {
		if err := h.Register(name, events.Channel{}); err != nil {
			tb.Fatal(err)
		}
	}
	return h
}

func subscribe(tb testing.TB, h *events.Hub, s events.Sink, topic shared.Topic) *events.Client {
	c := h.NewClient(s)
	if err := c.Subscribe(topic, events.Options{}); err != nil {
		tb.Fatal(err)
	}
	return c
}

// BenchmarkPublish publishes to 1,000 subscribers of a topic, and to one beside 0 and beside
// 50,000 subscribers of another channel.
func BenchmarkPublish(b *testing.B) {
	for _, c := range []struct{ here, there int }{{1, 0}, {1, 50_000}, {1000, 0}} {
		b.Run(fmt.Sprintf("%d subscribers beside %d", c.here, c.there), func(b *testing.B) {
			h, s := benchmarkHub(b), &sink{done: make(chan struct{}, 1)}
			for range c.here {
				subscribe(b, h, s, "here.a")
			}
			for n := range c.there {
				subscribe(b, h, s, shared.Topic(fmt.Sprint("there.", n)))
			}
			e, err := shared.NewEvent(shared.EventFields{ID: "1", Source: "/bench", Type: "t", Data: json.RawMessage(`{"n":1}`)})
			if err != nil {
				b.Fatal(err)
			}
			runtime.GC()
			b.ReportAllocs()
			for b.Loop() {
				s.left.Store(int64(c.here))
				if err := h.Publish(b.Context(), events.Publication{Topics: []shared.Topic{"here.a"}, Event: e}); err != nil {
					b.Fatal(err)
				}
				<-s.done
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*c.here), "ns/delivery")
		})
	}
}

// BenchmarkSubscriptionMemory has 20,000 clients with a topic each, and 1,000 clients with the
// same 20 topics.
func BenchmarkSubscriptionMemory(b *testing.B) {
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	const all = 20_000
	for _, each := range []int{1, 20} {
		b.Run(fmt.Sprintf("%d for each client", each), func(b *testing.B) {
			for b.Loop() {
				h := benchmarkHub(b)
				topics := make([]shared.Topic, all)
				for n := range topics {
					topics[n] = shared.Topic(fmt.Sprintf("here.%05d", n))
				}
				clients := make([]*events.Client, all/each)
				for n := range clients {
					clients[n] = h.NewClient(&sink{})
				}
				before := heap()
				for n := range all {
					topic := topics[n]
					if each > 1 {
						topic = topics[n%each]
					}
					if err := clients[n/each].Subscribe(topic, events.Options{}); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric((float64(heap())-float64(before))/all, "B/subscription")
				runtime.KeepAlive(clients)
				runtime.KeepAlive(topics)
			}
		})
	}
}
