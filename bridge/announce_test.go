package bridge_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/shared"
)

// writer is a node that only announces items, beside one that serves a client of them.
type writer struct {
	*node
	bus    *faultyBus
	serves *node
	heard  *faultyBus // of the node that serves
	data   table
	client *screen
}

func newWriter(t *testing.T) *writer {
	t.Helper()
	var broker membus.Broker
	w := &writer{bus: &faultyBus{Bus: broker.NewNode()}, heard: &faultyBus{Bus: broker.NewNode()}}
	w.serves = newNodeWith(t, &broker, bridge.Config{Bus: w.heard})
	w.serves.register(t, w.data.fetch, bridge.EntityOptions{})
	w.node = newNodeWith(t, &broker, bridge.Config{Bus: w.bus})
	if err := w.Announce(items); err != nil {
		t.Fatal(err)
	}
	w.client = newScreen(w.serves, "me")
	w.client.subscribe(t, key, withSnapshot)
	w.wantRev(t, 0)
	return w
}

func (w *writer) change(t *testing.T) {
	t.Helper()
	w.data.write(key)
	w.notify(t, key)
}

// wantRev waits until nothing is under way any more.
func (w *writer) wantRev(t *testing.T, rev int) {
	t.Helper()
	synctest.Wait()
	rows := w.client.rows()
	w.data.mu.Lock()
	defer w.data.mu.Unlock()
	if w.data.rev[key] != rev || len(rows) == 0 || rows[len(rows)-1] != string(w.data.row(key, mark+"me")) {
		t.Errorf("the client saw %q, want revision %d at last", rows, rev)
	}
}

// A node that only announces neither hears nor serves, and its notifications are as good
// as any.
func TestANodeThatOnlyAnnounces(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWriter(t)
		w.change(t)
		w.wantRev(t, 1)

		here := newScreen(w.node, "me")
		if err := here.Subscribe(key, withSnapshot); !errors.Is(err, shared.ErrUnknownEntity) {
			t.Errorf("subscribing where items are only announced returned %v, want ErrUnknownEntity", err)
		}
		stats := w.Stats()
		if _, fetched := stats.Entities[items]; fetched || stats.Notified != 0 || stats.Views != 0 {
			t.Errorf("the node that announces has %+v, want nothing of items", stats)
		}
		if !w.Ready() || !slices.Equal(w.EntityTypes(), []shared.EntityType{items}) {
			t.Errorf("ready is %v and the types are %q, want true and items", w.Ready(), w.EntityTypes())
		}
	})
}

// What gets lost shows by the writer's next message, by its beat, and by the beat with
// which it leaves.
func TestWhatOnlyAnnouncesIsMissedAsWell(t *testing.T) {
	for name, next := range map[string]func(t *testing.T, w *writer){
		"the next one": func(t *testing.T, w *writer) {
			w.notify(t, shared.EntityKey{Entity: items, ID: "another"})
			time.Sleep(time.Second) // the grace
		},
		"a beat": func(_ *testing.T, _ *writer) { time.Sleep(6 * time.Second) },
		"its last beat": func(t *testing.T, w *writer) {
			if err := w.Close(context.Background()); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWriter(t)
				w.change(t)
				w.wantRev(t, 1)
				w.heard.setFate(func([]byte) fate { return fate{lost: true} })
				w.change(t)
				synctest.Wait()
				w.heard.setFate(nil)
				next(t, w)
				w.wantRev(t, 2)
			})
		})
	}
}

// Notify keeps to its deadline and says what the bus says.
func TestAnnouncingWithoutABus(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWriter(t)
		w.bus.kill()
		if err := w.Notify(t.Context(), key); !errors.Is(err, shared.ErrUnavailable) {
			t.Errorf("Notify returned %v, want ErrUnavailable", err)
		}
		if err := w.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if err := w.Announce("orders"); !errors.Is(err, shared.ErrClosed) {
			t.Errorf("Announce of a closed node returned %v, want ErrClosed", err)
		}
	})
}

// A type may be announced before it is registered, after, and again. The numbers of its
// messages go on: others would otherwise not notice the loss of the next ones.
func TestAnAnnouncedTypeMayBeRegistered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWriter(t)
		for range 10 {
			w.change(t)
		}
		w.register(t, w.data.fetch, bridge.EntityOptions{})
		if err := w.Announce(items); err != nil {
			t.Errorf("announcing what is registered: %v", err)
		}
		if err := w.Register(items, w.data.fetch, bridge.EntityOptions{}); !errors.Is(err, shared.ErrDuplicateEntity) {
			t.Errorf("registering twice returned %v, want ErrDuplicateEntity", err)
		}
		here := newScreen(w.node, "me")
		here.subscribe(t, key, withSnapshot)
		w.change(t)
		w.wantRev(t, 11)
		if rows := here.rows(); len(rows) == 0 || rows[len(rows)-1] != w.client.rows()[len(w.client.rows())-1] {
			t.Errorf("the client of the node that registered later saw %q", rows)
		}
		w.heard.setFate(func([]byte) fate { return fate{lost: true} })
		w.change(t)
		synctest.Wait()
		w.heard.setFate(nil)
		time.Sleep(6 * time.Second)
		w.wantRev(t, 12)
		if lost := w.serves.Stats().Lost; lost != 1 {
			t.Errorf("%d messages count as lost, want 1", lost)
		}
	})
}

// refusingBus takes no subscription.
type refusingBus struct{ bus.Bus }

func (refusingBus) Subscribe(shared.EntityType, bus.Listener) error { return shared.ErrBadEntity }

// A registration that fails leaves the type announced, as it was.
func TestAFailedRegistrationLeavesTheTypeAnnounced(t *testing.T) {
	var broker membus.Broker
	n := newNodeWith(t, &broker, bridge.Config{Bus: refusingBus{broker.NewNode()}})
	if err := n.Announce(items); err != nil {
		t.Fatal(err)
	}
	if err := n.Register(items, fixedRow, bridge.EntityOptions{}); !errors.Is(err, shared.ErrBadEntity) {
		t.Fatalf("Register returned %v", err)
	}
	n.notify(t, key)
	if err := n.Notify(t.Context(), shared.EntityKey{Entity: "orders", ID: "1"}); !errors.Is(err, shared.ErrUnknownEntity) {
		t.Errorf("Notify of an unknown type returned %v, want ErrUnknownEntity", err)
	}
}

func TestBadNamesAreNotAnnounced(t *testing.T) {
	n := newNode(t, new(membus.Broker))
	for _, name := range []shared.EntityType{"", "a b", "#ephemeral"} {
		if err := n.Announce(name); !errors.Is(err, shared.ErrBadEntity) {
			t.Errorf("announcing %q returned %v, want ErrBadEntity", name, err)
		}
	}
	if err := n.RegisterTopic("talk", bridge.Topic{Message: func(string) {}, Gap: func() {}}); err != nil {
		t.Fatal(err)
	}
	if err := n.Announce("talk"); !errors.Is(err, shared.ErrDuplicateEntity) {
		t.Errorf("announcing a topic returned %v, want ErrDuplicateEntity", err)
	}
	if err := n.Announce(items); err != nil {
		t.Fatal(err)
	}
	if err := n.RegisterTopic(items, bridge.Topic{}); !errors.Is(err, shared.ErrDuplicateEntity) {
		t.Errorf("a topic in the place of an entity type: %v, want ErrDuplicateEntity", err)
	}
}

// A queue of functions gets its publisher, one however often the type is announced, and
// no listener.
func TestAnnouncingOverAQueueOfFunctions(t *testing.T) {
	var q ownQueue
	var heard []string
	q.subscriber(items, func(body []byte) { heard = append(heard, string(body)) })
	listen := func(shared.EntityType, shared.ByteHandler) { t.Error("it was subscribed to") }
	built := 0
	publisher := func(entity shared.EntityType) shared.ByteHandler {
		built++
		return q.publisher(entity)
	}
	b := bridge.BuildBridge(publisher, listen, func(shared.EntityKey, string, shared.ByteHandler) {})
	for range 2 {
		if err := b.Announce(items); err != nil {
			t.Fatal(err)
		}
	}
	if built != 1 {
		t.Errorf("%d publishers were built, want 1", built)
	}
	if err := b.Notify(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(t.Context()); err != nil { // waits for those that publish
		t.Fatal(err)
	}
	if len(heard) == 0 {
		t.Error("nothing was published")
	}
}
