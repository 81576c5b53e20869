package bridge_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/shared"
)

// counter is a client that only counts: what is measured is the engine.
type counter struct {
	pushes int
	done   chan struct{}
	want   int
}

func (c *counter) Push(*bridge.Slot, *bridge.Update) {
	if c.pushes++; c.pushes == c.want {
		c.done <- struct{}{}
	}
}

func (c *counter) Drop(*bridge.Slot) bool { return false }

func fixedRow(context.Context, shared.EntityKey, string) ([][]byte, error) {
	return [][]byte{[]byte(`{"id":"100","name":"a row of some length"}`)}, nil
}

func public(string) string { return "" }

// BenchmarkFanOut is one change of one public key: notify, one fetch, and a push
// to every subscriber. Its time and allocations per operation, divided by the
// clients, are the engine's share of a delivery.
func BenchmarkFanOut(b *testing.B) {
	for _, clients := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprint(clients, "clients"), func(b *testing.B) {
			n := newNode(b, &membus.Broker{})
			n.register(b, fixedRow, bridge.EntityOptions{Scope: public})
			sink := &counter{done: make(chan struct{}, 1), want: clients}
			for range clients {
				if err := n.NewClient(sink, bridge.ClientOptions{}).Subscribe(key, bridge.SubscribeOptions{}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				sink.pushes = 0
				n.notify(b, key)
				<-sink.done
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(clients), "ns/delivery")
		})
	}
}

// BenchmarkChange is one change of a key that one client alone watches, all the way
// from the call to the push, each after the one before: what a lone change costs.
func BenchmarkChange(b *testing.B) {
	n := newQuiet(b, new(membus.Broker).NewNode())
	sink := &counter{done: make(chan struct{}, 1), want: 1}
	client := n.NewClient(sink, bridge.ClientOptions{})
	defer client.Close()
	if err := client.Subscribe(key, bridge.SubscribeOptions{}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		sink.pushes = 0
		if err := n.Notify(context.Background(), key); err != nil {
			b.Fatal(err)
		}
		<-sink.done
	}
}

// BenchmarkNotifyUnwatched is a change of a key that nobody here watches, each time of
// another, as it arrives from the bus, with many other keys watched.
func BenchmarkNotifyUnwatched(b *testing.B) {
	for _, watched := range []int{0, 100_000} {
		b.Run(fmt.Sprint(watched, "watched"), func(b *testing.B) {
			var broker membus.Broker
			n := newNode(b, &broker)
			n.register(b, fixedRow, bridge.EntityOptions{Scope: public})
			sink := &counter{done: make(chan struct{}, 1)}
			c := n.NewClient(sink, bridge.ClientOptions{MaxSubscriptions: -1})
			for i := range watched {
				if err := c.Subscribe(shared.EntityKey{Entity: items, ID: fmt.Sprint("watched ", i)}, bridge.SubscribeOptions{}); err != nil {
					b.Fatal(err)
				}
			}
			from := broker.NewNode()
			bodies := make([][]byte, 1<<12)
			for i := range bodies {
				bodies[i] = fmt.Appendf(nil, `{"entity":"items","id":"ignored %d"}`, i) // as long as what is watched
			}
			next := 0
			b.ReportAllocs()
			for b.Loop() {
				next = (next + 1) % len(bodies)
				if err := from.Publish(context.Background(), items, bodies[next]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSubscribe is one client that joins and leaves a key others watch.
func BenchmarkSubscribe(b *testing.B) {
	n := newNode(b, &membus.Broker{})
	n.register(b, fixedRow, bridge.EntityOptions{Scope: public})
	sink := &counter{}
	for range 1000 {
		if err := n.NewClient(sink, bridge.ClientOptions{}).Subscribe(key, bridge.SubscribeOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	c := n.NewClient(sink, bridge.ClientOptions{})
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Subscribe(key, bridge.SubscribeOptions{}); err != nil {
			b.Fatal(err)
		}
		c.Unsubscribe(key)
	}
}

// TestFanOutAllocatesNothingPerRecipient holds the count, which unlike a time
// is the same on every machine.
func TestFanOutAllocatesNothingPerRecipient(t *testing.T) {
	perChange := func(clients int) float64 {
		n := newNode(t, &membus.Broker{})
		n.register(t, fixedRow, bridge.EntityOptions{Scope: public})
		sink := &counter{done: make(chan struct{}, 1), want: clients}
		for range clients {
			if err := n.NewClient(sink, bridge.ClientOptions{}).Subscribe(key, bridge.SubscribeOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		return testing.AllocsPerRun(50, func() {
			sink.pushes = 0
			n.notify(t, key)
			<-sink.done
		})
	}
	few, many := perChange(10), perChange(1010)
	if many-few > 10 { // of 1,000 more recipients; the rest is noise of the runtime's own
		t.Errorf("a change allocates %v times for 10 clients and %v for 1,010", few, many)
	}
}

// BenchmarkSubscriptionMemory is what a node holds for one more subscription of a
// client that has many: of a key that it alone watches, of one that others watch
// with other secrets, and of one that they watch in the same scope.
func BenchmarkSubscriptionMemory(b *testing.B) {
	const clients, each = 20, 1000
	for _, c := range []struct {
		name  string
		id    string // of the client and the number of its subscription
		scope func(string) string
	}{
		{"own key", "%02d-%05d", nil},
		{"own view", "%08[2]d", nil},
		{"shared view", "%08[2]d", public},
	} {
		b.Run(c.name, func(b *testing.B) {
			perSubscription := 0.0
			for b.Loop() {
				n := newNode(b, &membus.Broker{})
				n.register(b, fixedRow, bridge.EntityOptions{Scope: c.scope})
				before := heap()
				for client := range clients {
					watcher := n.NewClient(&counter{}, bridge.ClientOptions{Secret: shared.NewSecret(fmt.Sprint(client))})
					for i := range each {
						// As it comes from a message of the client's.
						key := shared.EntityKey{Entity: shared.EntityType(strings.Clone(string(items))), ID: fmt.Sprintf(c.id, client, i)}
						if err := watcher.Subscribe(key, bridge.SubscribeOptions{}); err != nil {
							b.Fatal(err)
						}
					}
				}
				perSubscription = float64(heap()-before) / clients / each
				runtime.KeepAlive(n)
			}
			b.ReportMetric(perSubscription, "B/subscription")
		})
	}
}

// heap is how many bytes are in use.
func heap() uint64 {
	var m runtime.MemStats
	for range 3 { // so that what the first has found to be garbage is swept
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// eaves is a bus that publishes to nobody; what it would carry is given to listener.
type eaves struct{ listener bus.Listener }

func (*eaves) Publish(context.Context, shared.EntityType, []byte) error { return nil }
func (*eaves) Close(context.Context) error                              { return nil }

func (e *eaves) Subscribe(_ shared.EntityType, l bus.Listener) error {
	e.listener = l
	l.Live()
	return nil
}

func newEaves(tb testing.TB) (*bridge.Bridge, *eaves) {
	tb.Helper()
	bus := new(eaves)
	return newQuiet(tb, bus), bus
}

// newQuiet returns a Bridge without a harness, which would allocate, too.
func newQuiet(tb testing.TB, bus bus.Bus) *bridge.Bridge {
	tb.Helper()
	b, err := bridge.New(bridge.Config{Bus: bus, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { b.Close(context.Background()) })
	if err := b.Register(items, fixedRow, bridge.EntityOptions{}); err != nil {
		tb.Fatal(err)
	}
	return b
}

// BenchmarkNotify is a call on a bus that acknowledges at once: alone, and with
// others of other keys.
func BenchmarkNotify(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprint(callers, "callers"), func(b *testing.B) {
			n, _ := newEaves(b)
			b.ReportAllocs()
			var all sync.WaitGroup
			b.ResetTimer()
			for caller := range callers {
				all.Go(func() {
					key := shared.EntityKey{Entity: items, ID: fmt.Sprint(caller)}
					for range b.N / callers {
						if err := n.Notify(context.Background(), key); err != nil {
							b.Error(err)
						}
					}
				})
			}
			all.Wait()
		})
	}
}

// What these allocate is the same on every machine.
func TestAllocations(t *testing.T) {
	b, bus := newEaves(t)
	n := newQuiet(t, new(membus.Broker).NewNode())
	sink := &counter{done: make(chan struct{}, 1), want: 1}
	client := n.NewClient(sink, bridge.ClientOptions{})
	defer client.Close()
	if err := client.Subscribe(key, bridge.SubscribeOptions{}); err != nil {
		t.Fatal(err)
	}
	unwatched := func(ids string) func() {
		body := []byte(`{"entity":"items",` + ids + `,"from":"7QWXW5XGBQYOYC7RKN7SRIYJNA","seq":1}`)
		return func() { bus.listener.Message(body) }
	}
	for what, c := range map[string]struct {
		most float64
		run  func()
	}{
		"hearing of a key that nobody watches":    {1, unwatched(`"id":"1"`)},
		"hearing of ten keys that nobody watches": {2, unwatched(`"ids":["1","2","3","4","5","6","7","8","9","10"]`)},
		"announcing a key": {4, func() {
			if err := b.Notify(context.Background(), key); err != nil {
				t.Error(err)
			}
		}},
		"a change, up to its push": {16, func() {
			sink.pushes = 0
			if err := n.Notify(context.Background(), key); err != nil {
				t.Error(err)
			}
			<-sink.done
		}},
	} {
		if got := testing.AllocsPerRun(1000, c.run); got > c.most {
			t.Errorf("%s allocates %v times, want %v at most", what, got, c.most)
		}
	}
}

// BenchmarkAnotherKeysDelay is from the publication of a key to its push, on two nodes in
// turns, so that both have the same machine: one where nothing else changes, and one beside
// another key of the same type that 10,000 clients watch, and that changes as fast as it can.
// Both keys come by one reader of the bus. The ratio is that of the two.
//
// What is heard is the reader's own time, from when the key comes to when the reader has
// returned from both: it waits for no fan-out.
func BenchmarkAnotherKeysDelay(b *testing.B) {
	alone, hot := newBystander(b, 0), newBystander(b, 10_000)
	b.ResetTimer()
	for range b.N {
		alone.measure()
		hot.measure()
	}
	for i, what := range []string{"alone", "hot"} {
		by := []*bystander{alone, hot}[i]
		b.ReportMetric(percentile(by.took, 50), what+"-p50-ns")
		b.ReportMetric(percentile(by.took, 99), what+"-p99-ns")
		b.ReportMetric(percentile(by.heard, 99), what+"-heard-p99-ns")
	}
	b.ReportMetric(percentile(hot.took, 50)/percentile(alone.took, 50), "p50-ratio")
	b.ReportMetric(percentile(hot.took, 99)/percentile(alone.took, 99), "p99-ratio")
}

// percentile is of times that it sorts.
func percentile(took []time.Duration, p int) float64 {
	slices.Sort(took)
	return float64(took[len(took)*p/100].Nanoseconds())
}

// bystander is a client of one key, on a node where so many watch another.
type bystander struct {
	bus         *eaves
	pushed      chan time.Time
	heard, took []time.Duration
}

func newBystander(b *testing.B, crowd int) *bystander {
	b.Helper()
	by := &bystander{bus: new(eaves), pushed: make(chan time.Time, 1)}
	n, err := bridge.New(bridge.Config{Bus: by.bus, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { n.Close(context.Background()) })
	if err := n.Register(items, fixedRow, bridge.EntityOptions{Scope: public}); err != nil {
		b.Fatal(err)
	}
	watch := func(s bridge.Sink, id string) {
		if err := n.NewClient(s, bridge.ClientOptions{}).Subscribe(shared.EntityKey{Entity: items, ID: id}, bridge.SubscribeOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	for range crowd {
		watch(&counter{}, "hot")
	}
	watch(arrival(by.pushed), "other")
	return by
}

func (by *bystander) measure() {
	hot, other := []byte(`{"entity":"items","id":"hot"}`), []byte(`{"entity":"items","id":"other"}`)
	// The hot key changes for so long that its fetch and fan-out are somewhere.
	for end := time.Now().Add(time.Duration(100+rand.IntN(900)) * time.Microsecond); time.Now().Before(end); {
		by.bus.listener.Message(hot)
	}
	begin := time.Now()
	by.bus.listener.Message(hot)
	by.bus.listener.Message(other)
	by.heard = append(by.heard, time.Since(begin))
	by.took = append(by.took, (<-by.pushed).Sub(begin))
}

// arrival is a Sink that says when it was pushed to.
type arrival chan time.Time

func (a arrival) Push(*bridge.Slot, *bridge.Update) { a <- time.Now() }
func (arrival) Drop(*bridge.Slot) bool              { return false }

// BenchmarkFanOutOnABusyNode is BenchmarkFanOut for 10,000 clients beside goroutines that
// want the processor as well.
func BenchmarkFanOutOnABusyNode(b *testing.B) {
	for _, busy := range []int{0, 50} {
		b.Run(fmt.Sprint(busy, "busy"), func(b *testing.B) {
			const clients = 10_000
			n, bus := newEaves(b)
			stop := make(chan struct{})
			var others sync.WaitGroup
			sink := &counter{done: make(chan struct{}, 1), want: clients}
			for range clients {
				c := n.NewClient(sink, bridge.ClientOptions{Secret: shared.NewSecret("all")})
				if err := c.Subscribe(key, bridge.SubscribeOptions{}); err != nil {
					b.Fatal(err)
				}
			}
			for range busy {
				others.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						for end := time.Now().Add(50 * time.Microsecond); time.Now().Before(end); {
						}
						runtime.Gosched()
					}
				})
			}
			body := []byte(`{"entity":"items","id":"100"}`)
			var took []time.Duration
			for b.Loop() {
				sink.pushes = 0
				begin := time.Now()
				bus.listener.Message(body)
				<-sink.done
				took = append(took, time.Since(begin))
			}
			close(stop)
			others.Wait()
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
	}
}
