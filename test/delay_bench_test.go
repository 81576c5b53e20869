package test

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

// arrivals is a Sink that says when it was pushed to.
type arrivals chan time.Time

func (a arrivals) Push(*bridge.Slot, *bridge.Update) { a <- time.Now() }
func (arrivals) Drop(*bridge.Slot) bool              { return false }

// BenchmarkAChangesDelay is from a call of Notify to the push, with a real nsqd: for a client
// of the node that announces, and for one of another node.
func BenchmarkAChangesDelay(b *testing.B) {
	d := nsqdtest.Start(b)
	node := func() *es.EntitySync {
		n, err := es.New(es.Config{NSQAddr: d.Addr, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = n.Close(context.Background()) })
		if err := es.Register(n, "items", func(context.Context, shared.EntityKey, string) (string, error) { return "row", nil }); err != nil {
			b.Fatal(err)
		}
		for !n.Ready() {
			time.Sleep(time.Millisecond)
		}
		return n
	}
	from := node()
	for name, to := range map[string]*es.EntitySync{"a client of the same node": from, "a client of another node": node()} {
		b.Run(name, func(b *testing.B) {
			key := shared.EntityKey{Entity: "items", ID: name}
			pushed := make(arrivals, 100)
			client := to.Bridge.NewClient(pushed, bridge.ClientOptions{})
			defer client.Close()
			if err := client.Subscribe(key, bridge.SubscribeOptions{}); err != nil {
				b.Fatal(err)
			}
			var took []time.Duration
			for b.Loop() {
				begin := time.Now()
				if err := from.Notify(context.Background(), key); err != nil {
					b.Fatal(err)
				}
				took = append(took, (<-pushed).Sub(begin))
				for len(pushed) > 0 {
					<-pushed
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
			b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
		})
	}
}
