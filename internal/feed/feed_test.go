package feed_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/feed"
	"github.com/entity-sync/entity-sync/shared"
)

const topic shared.EntityType = "items"

// ear is a Listener that remembers what it heard.
type ear struct {
	mu    sync.Mutex
	heard []feed.Change
	gaps  []feed.Gap
}

func (e *ear) Changed(c feed.Change) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard = append(e.heard, c)
}

func (e *ear) Gap(g feed.Gap) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.gaps = append(e.gaps, g)
}

func (e *ear) ids() (ids []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.heard {
		ids = append(ids, c.ID)
	}
	return ids
}

// takeGaps returns what has been said since it was last called.
func (e *ear) takeGaps() (gaps []feed.Gap) {
	e.mu.Lock()
	defer e.mu.Unlock()
	gaps, e.gaps = e.gaps, nil
	return gaps
}

// filter is a bus that keeps the bodies that it is given, and loses them where it is told.
type filter struct {
	bus.Bus
	mu     sync.Mutex
	loses  bool
	bodies []string
}

func (f *filter) Publish(ctx context.Context, entity shared.EntityType, body []byte) error {
	f.mu.Lock()
	loses := f.loses
	f.bodies = append(f.bodies, string(body))
	f.mu.Unlock()
	if loses {
		return nil
	}
	return f.Bus.Publish(ctx, entity, body)
}

func (f *filter) lose(loses bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loses = loses
}

// two is two Nodes that listen to the topic, the first of which publishes. position is that
// of the second.
type two struct {
	t        *testing.T
	broker   membus.Broker
	bus      *filter
	from, to *ear
	feed     *feed.Feed // of the first
	position atomic.Uint64
}

const grace = time.Second

func newTwo(t *testing.T) *two {
	t.Helper()
	w := &two{t: t, from: &ear{}, to: &ear{}}
	w.bus = &filter{Bus: w.broker.NewNode()}
	w.feed = w.node(w.bus, w.from, func() uint64 { return 0 })
	w.node(w.broker.NewNode(), w.to, w.position.Load)
	return w
}

func (w *two) node(b bus.Bus, e *ear, position func() uint64) *feed.Feed {
	w.t.Helper()
	n := feed.NewNode(feed.Config{
		Bus: b, PublishTimeout: time.Second, BeatInterval: 4 * time.Second, Grace: grace,
		Position: position, Logger: slog.New(slog.NewTextHandler(canary.Output(w.t), nil)),
	})
	w.t.Cleanup(func() {
		if err := n.StopPublishing(context.Background()); err != nil {
			w.t.Error(err)
		}
		if err := n.Close(context.Background()); err != nil {
			w.t.Error(err)
		}
	})
	f := n.Topic(topic)
	if err := f.Listen(e); err != nil {
		w.t.Fatal(err)
	}
	return f
}

func (w *two) publish(ids ...string) {
	w.t.Helper()
	p := []feed.Publication{{Feed: w.feed, IDs: ids}}
	if feed.Publish(w.t.Context(), p); p[0].Err != nil {
		w.t.Fatal(p[0].Err)
	}
}

func TestWhatIsPublishedIsHeardOnceByEveryNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwo(t)
		begin := time.Now()
		w.publish("1", "2", "1")
		w.publish("3")
		synctest.Wait()
		for who, e := range map[string]*ear{"its own": w.from, "the other": w.to} {
			if got := e.ids(); !slices.Equal(got, []string{"1", "2", "3"}) {
				t.Errorf("%s node has heard %v", who, got)
			}
			for _, c := range e.heard {
				if !c.Published.Equal(begin) {
					t.Errorf("%s node has heard %+v, published at %v", who, c, begin)
				}
			}
		}
	})
}

// A node hears what it publishes though no broker takes it.
func TestANodeHearsItselfWithoutABroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwo(t)
		w.broker.SetDown(true)
		p := []feed.Publication{{Feed: w.feed, IDs: []string{"1", "2"}}}
		if feed.Publish(t.Context(), p); p[0].Err == nil || !slices.Equal(p[0].IDs, []string{"1", "2"}) {
			t.Errorf("without a broker: %v, %v", p[0].IDs, p[0].Err)
		}
		if got := w.from.ids(); !slices.Equal(got, []string{"1", "2"}) {
			t.Errorf("the node has heard %v", got)
		}
	})
}

func TestGaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwo(t)
		want := func(what string, want ...feed.Gap) {
			t.Helper()
			synctest.Wait()
			got := w.to.takeGaps()
			for i := range got {
				got[i].Err = nil
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: %+v, want %+v", what, got, want)
			}
		}
		want("at first", feed.Gap{Reason: feed.Connected})
		w.position.Store(7)
		w.publish("1")
		w.bus.lose(true)
		w.publish("2")
		w.publish("3")
		w.bus.lose(false)
		w.publish("4")
		synctest.Wait()
		w.position.Store(8) // which has missed nothing
		want("within the grace")
		time.Sleep(grace)
		want("two of four are lost", feed.Gap{Reason: feed.Missing, Position: 7, Missing: 2})
		w.bus.lose(true)
		w.publish("5")
		w.bus.lose(false)
		time.Sleep(4 * time.Second) // a beat
		w.position.Store(9)
		time.Sleep(grace)
		want("the last one is lost", feed.Gap{Reason: feed.Missing, Position: 8, Missing: 1})
		w.broker.SetDown(true)
		want("the broker is gone", feed.Gap{Reason: feed.Disconnected})
		w.broker.SetDown(false)
		want("it is back", feed.Gap{Reason: feed.Connected, Position: 9})
	})
}

// A node that hears another in the middle of its count cannot know what it has missed.
func TestAPublisherHeardMidwayIsAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwo(t)
		w.publish("1")
		w.publish("2")
		late := &ear{}
		w.node(w.broker.NewNode(), late, func() uint64 { return 5 })
		late.takeGaps()
		w.publish("3")
		time.Sleep(grace)
		synctest.Wait()
		if got, want := late.takeGaps(), (feed.Gap{Reason: feed.Midway, Position: 5, Joined: 1}); len(got) != 1 || got[0] != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	})
}

// What another program says has no number, and perhaps less or more members.
func TestMessagesOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwo(t)
		w.to.takeGaps()
		other := w.broker.NewNode()
		const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		for _, body := range []string{
			`{"entity":"items","id":"old"}`,
			`{"entity":"items","ids":["a","b"],"at":1764490000000,"trace":"` + trace + `"}`,
			`{"entity":"items","id":"new","priority":{"at":7},"at":"now"}`,
			`{"entity":"users","id":"1"}`, `rubbish`,
		} {
			if err := other.Publish(t.Context(), topic, []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		at := time.UnixMilli(1764490000000)
		want := []feed.Change{{ID: "old"}, {ID: "a", Published: at, Trace: trace}, {ID: "b", Published: at, Trace: trace}, {ID: "new"}}
		if got := w.to.heard; !slices.EqualFunc(got, want, func(a, b feed.Change) bool {
			return a.ID == b.ID && a.Trace == b.Trace && a.Published.Equal(b.Published)
		}) {
			t.Errorf("%+v, want %+v", got, want)
		}
		if gaps := w.to.takeGaps(); len(gaps) != 0 {
			t.Errorf("%+v", gaps)
		}
	})
}

// A message under a node's own name, from wherever, was heard when the node published it.
func TestANodesOwnEchoIsNotHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwo(t)
		w.publish("1")
		w.bus.mu.Lock()
		echo := []byte(w.bus.bodies[0])
		w.bus.mu.Unlock()
		for range 3 {
			if err := w.broker.NewNode().Publish(t.Context(), topic, echo); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if got := fmt.Sprint(w.from.ids(), w.to.ids()); got != "[1] [1 1 1 1]" {
			t.Errorf("heard %s, want [1] by itself, and all by the other", got)
		}
	})
}
