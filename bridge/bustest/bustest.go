// Package bustest holds the tests that every bus.Bus passes, whatever carries
// its messages. A Bus of your own is tested with a Harness and Run.
package bustest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/shared"
)

// Harness is a broker of its own for one test.
type Harness struct {
	// NewBus joins another node to the broker.
	NewBus func(t *testing.T) bus.Bus

	// Stop makes the broker unreachable. Start makes it reachable at the same address
	// again. Start may be called on a broker that was never started.
	Stop, Start func(t *testing.T)

	// Body makes the body that carries text to the listeners of entity, for a bus
	// that reads its messages. Different texts must make different bodies. A text
	// may hold any bytes. Nil means that the text is the body.
	Body func(entity shared.EntityType, text string) []byte

	// Surveyed says that the bus is a bus.Spreader and a bus.Surveyor, which knows
	// its one broker.
	Surveyed bool
}

func (h Harness) body(entity shared.EntityType, text string) []byte {
	if h.Body == nil {
		return []byte(text)
	}
	return h.Body(entity, text)
}

// patience is how long a test waits for an event that must come.
const patience = 15 * time.Second

// entity is unique to a test, so that brokers may be shared between runs.
const entity shared.EntityType = "bustest.items"

// Run runs the conformance tests. newHarness makes a broker that is started.
func Run(t *testing.T, newHarness func(t *testing.T) Harness) {
	for name, test := range map[string]func(*testing.T, Harness){
		"every node hears everything":             everyNodeHearsEverything,
		"only the topics subscribed to are heard": onlySubscribedTopics,
		"bodies arrive as they were published":    bodiesArriveIntact,
		"many publishers at once":                 manyPublishers,
		"nothing published while live is missed":  nothingMissedWhileLive,
		"an outage is told and repaired":          outage,
		"a broker absent at first is waited for":  absentAtFirst,
		"an entity type added later is live too":  entityTypeAddedLater,
		"one bus tells its entity types apart":    entityTypesApart,
		"publish keeps to its deadline":           publishDeadline,
		"a bad entity type is refused":            badEntity,
		"what is spread is heard by every node":   spread,
		"a survey tells which brokers are heard":  survey,
		"close ends everything":                   closeEnds,
		"a node that leaves disturbs nobody":      leaving,
	} {
		t.Run(name, func(t *testing.T) { test(t, newHarness(t)) })
	}
}

// node is one Bus and its listener.
type node struct {
	bus.Bus
	*listener
	harness Harness
}

func join(t *testing.T, h Harness, topics ...shared.EntityType) node {
	t.Helper()
	n := node{Bus: h.NewBus(t), listener: newListener(), harness: h}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := n.Close(ctx); err != nil {
			t.Errorf("closing a bus: %v", err)
		}
	})
	for _, topic := range topics {
		n.subscribe(t, topic, n.listener)
	}
	return n
}

func (n node) subscribe(t *testing.T, topic shared.EntityType, l *listener) {
	t.Helper()
	if err := n.Subscribe(topic, l); err != nil {
		t.Fatalf("subscribing to %q: %v", topic, err)
	}
}

func (n node) publish(t *testing.T, topic shared.EntityType, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := n.Publish(ctx, topic, n.harness.body(topic, text)); err != nil {
		t.Fatalf("publishing %.40q: %v", text, err)
	}
}

// untilHeard waits until the node's own listener has heard text.
func (n node) untilHeard(t *testing.T, topic shared.EntityType, text string) {
	t.Helper()
	n.untilHeardBody(t, n.harness.body(topic, text))
}

// listener records the calls of its methods.
type listener struct {
	mu     sync.Mutex
	bodies map[string]int
	lives  int
	losses int
	change chan struct{} // closed and replaced at every event
}

var _ bus.Listener = (*listener)(nil)

func newListener() *listener {
	return &listener{bodies: map[string]int{}, change: make(chan struct{})}
}

func (l *listener) Message(body []byte) { l.record(func() { l.bodies[string(body)]++ }) }
func (l *listener) Live()               { l.record(func() { l.lives++ }) }
func (l *listener) Lost(error)          { l.record(func() { l.losses++ }) }

func (l *listener) record(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	close(l.change)
	l.change = make(chan struct{})
}

// until waits until the condition on the listener's record holds.
func (l *listener) until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	timeout := time.After(patience)
	for {
		l.mu.Lock()
		ok, change := holds(), l.change
		l.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-change:
		case <-timeout:
			t.Fatalf("waited %v in vain until %s", patience, what)
		}
	}
}

func (l *listener) untilLive(t *testing.T, times int) {
	t.Helper()
	l.until(t, fmt.Sprintf("live for the %d. time", times), func() bool { return l.lives >= times })
}

func (l *listener) untilHeardBody(t *testing.T, body []byte) {
	t.Helper()
	l.until(t, fmt.Sprintf("%.80q was heard", body), func() bool { return l.bodies[string(body)] > 0 })
}

func (l *listener) count() (distinct int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.bodies)
}

func everyNodeHearsEverything(t *testing.T, h Harness) {
	nodes := []node{join(t, h, entity), join(t, h, entity), join(t, h, entity)}
	for _, n := range nodes {
		n.untilLive(t, 1)
	}
	for i, from := range nodes {
		body := fmt.Sprint("from node ", i)
		from.publish(t, entity, body)
		for _, to := range nodes {
			to.untilHeard(t, entity, body)
		}
	}
}

func onlySubscribedTopics(t *testing.T, h Harness) {
	a, b := join(t, h, entity), join(t, h, "bustest.users")
	a.untilLive(t, 1)
	b.untilLive(t, 1)
	a.publish(t, "bustest.users", "for b")
	a.publish(t, entity, "for a")
	b.untilHeard(t, "bustest.users", "for b")
	a.untilHeard(t, entity, "for a")
	if a.count() != 1 || b.count() != 1 {
		t.Errorf("heard %d and %d bodies, want 1 each", a.count(), b.count())
	}
}

func bodiesArriveIntact(t *testing.T, h Harness) {
	n := join(t, h, entity)
	n.untilLive(t, 1)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for _, body := range []string{"x", "two\nlines", string(every), string(make([]byte, 16<<10))} {
		n.publish(t, entity, body)
		n.untilHeard(t, entity, body)
	}
}

func manyPublishers(t *testing.T, h Harness) {
	n, other := join(t, h, entity), join(t, h, entity)
	n.untilLive(t, 1)
	other.untilLive(t, 1)
	const publishers, each = 16, 50
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for i := range each {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				if err := n.Publish(ctx, entity, h.body(entity, fmt.Sprintf("%d.%d", p, i))); err != nil {
					t.Errorf("publisher %d: %v", p, err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	for _, l := range []node{n, other} {
		l.until(t, "everything was heard", func() bool { return len(l.bodies) == publishers*each })
	}
}

// nothingMissedWhileLive: between Live and Lost every published message is heard.
func nothingMissedWhileLive(t *testing.T, h Harness) {
	from := join(t, h)
	for i := range 20 {
		n := join(t, h, entity)
		n.untilLive(t, 1)
		body := fmt.Sprint("right after live ", i)
		from.publish(t, entity, body)
		n.untilHeard(t, entity, body)
	}
}

func outage(t *testing.T, h Harness) {
	a, b := join(t, h, entity), join(t, h, entity)
	a.untilLive(t, 1)
	b.untilLive(t, 1)
	for round := range 2 {
		h.Stop(t)
		for _, n := range []node{a, b} {
			n.until(t, "the loss was told", func() bool { return n.losses > round })
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		err := a.Publish(ctx, entity, h.body(entity, "into the void"))
		cancel()
		if !errors.Is(err, shared.ErrUnavailable) {
			t.Errorf("publishing without a broker returned %v, want ErrUnavailable", err)
		}
		h.Start(t)
		a.untilLive(t, round+2)
		b.untilLive(t, round+2)
		body := fmt.Sprint("after outage ", round)
		a.publish(t, entity, body)
		a.untilHeard(t, entity, body)
		b.untilHeard(t, entity, body)
	}
}

func absentAtFirst(t *testing.T, h Harness) {
	h.Stop(t)
	n := join(t, h, entity)
	h.Start(t)
	n.untilLive(t, 1)
	n.publish(t, entity, "hello")
	n.untilHeard(t, entity, "hello")
}

// entityTypeAddedLater: an entity type that is added to a live bus becomes live too,
// and each message of it that is published from then on is heard.
func entityTypeAddedLater(t *testing.T, h Harness) {
	n, from := join(t, h, entity), join(t, h)
	n.untilLive(t, 1)
	for i := range 10 {
		more := newListener()
		name := shared.EntityType(fmt.Sprint("bustest.more.", i))
		n.subscribe(t, name, more)
		more.untilLive(t, 1)
		from.publish(t, name, "right after live")
		more.untilHeardBody(t, h.body(name, "right after live"))
	}
}

// entityTypesApart: one bus, two entity types and a listener for each.
func entityTypesApart(t *testing.T, h Harness) {
	n := join(t, h, entity)
	users := newListener()
	n.subscribe(t, "bustest.users", users)
	n.untilLive(t, 1)
	users.untilLive(t, 1)
	for i := range 10 {
		n.publish(t, "bustest.users", fmt.Sprint("for users ", i))
		n.publish(t, entity, fmt.Sprint("for items ", i))
		users.untilHeardBody(t, h.body("bustest.users", fmt.Sprint("for users ", i)))
		n.untilHeard(t, entity, fmt.Sprint("for items ", i))
	}
	if n.count() != 10 || users.count() != 10 {
		t.Errorf("heard %d and %d bodies, want each listener's own 10", n.count(), users.count())
	}
}

func publishDeadline(t *testing.T, h Harness) {
	n := join(t, h, entity)
	n.untilLive(t, 1)
	h.Stop(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	err := n.Publish(ctx, entity, h.body(entity, "x"))
	if took := time.Since(begin); err == nil || took > 2*time.Second {
		t.Errorf("Publish returned %v after %v, want an error within its 100 ms and some grace", err, took)
	}
	h.Start(t)
}

func badEntity(t *testing.T, h Harness) {
	n := join(t, h)
	for _, name := range []shared.EntityType{"", "a b", "x\nPUB y", "x#ephemeral"} {
		if err := n.Subscribe(name, n.listener); !errors.Is(err, shared.ErrBadEntity) {
			t.Errorf("Subscribe(%q) returned %v, want ErrBadEntity", name, err)
		}
		if err := n.Publish(t.Context(), name, h.body(name, "x")); !errors.Is(err, shared.ErrBadEntity) {
			t.Errorf("Publish(%q) returned %v, want ErrBadEntity", name, err)
		}
	}
}

func spread(t *testing.T, h Harness) {
	if !h.Surveyed {
		t.Skip("this bus knows nothing of brokers")
	}
	nodes := []node{join(t, h, entity), join(t, h, entity)}
	from, ok := nodes[0].Bus.(bus.Spreader)
	if !ok {
		t.Fatal("it is no bus.Spreader")
	}
	for _, n := range nodes {
		n.untilLive(t, 1)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := from.Spread(ctx, entity, h.body(entity, "spread")); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		n.untilHeard(t, entity, "spread")
	}
	h.Stop(t)
	for _, n := range nodes {
		n.until(t, "the outage was told", func() bool { return n.losses > 0 })
	}
	ctx, cancel = context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := from.Spread(ctx, entity, h.body(entity, "to nobody")); err == nil {
		t.Error("spread without a broker and without an error")
	}
}

func survey(t *testing.T, h Harness) {
	if !h.Surveyed {
		t.Skip("this bus knows nothing of brokers")
	}
	n := join(t, h, entity)
	asks, ok := n.Bus.(bus.Surveyor)
	if !ok {
		t.Fatal("it is no bus.Surveyor")
	}
	// A bus may say Live a moment before or after its survey does.
	until := func(what string, holds func(bus.BrokerStats) bool) {
		t.Helper()
		for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			brokers := asks.Survey()
			if len(brokers) == 1 && holds(brokers[0]) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("waited in vain until %s: %+v", what, brokers)
			}
		}
	}
	heard := func(b bus.BrokerStats) bool { return b.Live == 1 && b.Gone == 0 && b.Silent == 0 }
	gone := func(b bus.BrokerStats) bool { return b.Live == 0 && b.Gone == 1 && b.Silent == 0 }
	until("the broker is heard", heard)
	h.Stop(t)
	until("the broker is gone", gone)
	h.Start(t)
	until("the broker is heard again", heard)
}

func closeEnds(t *testing.T, h Harness) {
	n, other := join(t, h, entity), join(t, h, entity)
	n.untilLive(t, 1)
	other.untilLive(t, 1)
	for range 2 {
		if err := n.Close(t.Context()); err != nil {
			t.Errorf("Close returned %v", err)
		}
	}
	if err := n.Publish(t.Context(), entity, h.body(entity, "x")); !errors.Is(err, shared.ErrClosed) {
		t.Errorf("Publish after Close returned %v, want ErrClosed", err)
	}
	if err := n.Subscribe(entity, n.listener); !errors.Is(err, shared.ErrClosed) {
		t.Errorf("Subscribe after Close returned %v, want ErrClosed", err)
	}
	other.publish(t, entity, "not for the closed one")
	other.untilHeard(t, entity, "not for the closed one")
	if n.count() != 0 {
		t.Error("a closed bus heard something")
	}
}

func leaving(t *testing.T, h Harness) {
	stays := join(t, h, entity)
	stays.untilLive(t, 1)
	for i := range 10 {
		n := join(t, h, entity)
		n.untilLive(t, 1)
		if err := n.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		body := fmt.Sprint("after leaver ", i)
		stays.publish(t, entity, body)
		stays.untilHeard(t, entity, body)
	}
}
