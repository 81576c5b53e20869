package events_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/bridge/events"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/feed"
	"github.com/entity-sync/entity-sync/shared"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hub is a Hub on a broker, for a test.
type hub struct {
	*events.Hub
	t        *testing.T
	sequence atomic.Uint64
}

func newHub(t *testing.T, b *membus.Broker, memory int) *hub {
	t.Helper()
	h := &hub{t: t}
	log := slog.New(slog.NewTextHandler(canary.Output(t), nil))
	node := feed.NewNode(feed.Config{
		Bus: b.NewNode(), PublishTimeout: time.Second, BeatInterval: 4 * time.Second, Grace: time.Second,
		Position: h.sequence.Load, Logger: log,
	})
	h.Hub = events.New(events.Config{
		Stream: node.Stream("es.events"), Node: node.Name(), Logger: log, Memory: memory,
		Sequence: func() uint64 { return h.sequence.Add(1) },
	})
	t.Cleanup(func() {
		if err := errors.Join(node.StopPublishing(context.Background()), h.Close(context.Background()), node.Close(context.Background())); err != nil {
			t.Error(err)
		}
	})
	return h
}

func (h *hub) register(name string, c events.Channel) {
	h.t.Helper()
	if err := h.Register(name, c); err != nil {
		h.t.Fatal(err)
	}
}

// event is one with a number for its id.
func event(t *testing.T, id string) shared.Event {
	t.Helper()
	e, err := shared.NewEvent(shared.EventFields{ID: id, Source: "/test", Type: "t", Time: time.Unix(0, 0), Data: json.RawMessage(`{"n":1}`)})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (h *hub) publish(id string, topics ...shared.Topic) {
	h.t.Helper()
	if err := h.Publish(h.t.Context(), events.Publication{Topics: topics, Event: event(h.t, id)}); err != nil {
		h.t.Errorf("publishing %s to %q: %v", id, topics, err)
	}
}

// inbox is a Sink that remembers: "1 a.b [a.b a]" for an event, its topic and context,
// "gap a", "retract a".
type inbox struct {
	mu  sync.Mutex
	got []string
}

func (i *inbox) note(text string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.got = append(i.got, text)
}

func (i *inbox) Event(d *events.Delivery) {
	i.note(fmt.Sprint(d.Event.ID(), " ", d.Topic, " ", d.Context))
}
func (i *inbox) Gap(t shared.Topic, _ uint64) { i.note("gap " + string(t)) }
func (i *inbox) Retract(t shared.Topic)       { i.note("retract " + string(t)) }

func (i *inbox) take() (got []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	got, i.got = i.got, nil
	return got
}

func (i *inbox) want(t *testing.T, want ...string) {
	t.Helper()
	if got := i.take(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

type client struct {
	*events.Client
	*inbox
	t *testing.T
}

func (h *hub) client(topics ...shared.Topic) *client {
	h.t.Helper()
	in := &inbox{}
	c := &client{h.NewClient(in), in, h.t}
	for _, topic := range topics {
		c.subscribe(topic, events.Options{})
	}
	h.t.Cleanup(func() { c.Close() })
	return c
}

func (c *client) subscribe(topic shared.Topic, o events.Options) {
	c.t.Helper()
	if err := c.Subscribe(topic, o); err != nil {
		c.t.Errorf("subscribing to %q: %v", topic, err)
	}
}

// A subscription hears its topic and what is below it, on each node, once.
func TestWhoHearsAnEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b membus.Broker
		one, two := newHub(t, &b, 0), newHub(t, &b, 0)
		for _, h := range []*hub{one, two} {
			h.register("news", events.Channel{})
			h.register("sport", events.Channel{})
		}
		news, uk, london, sport := one.client("news"), two.client("news.uk"), one.client("news.uk.london"), two.client("sport")
		all, both, exact := one.client("*"), two.client("news", "news.uk", "*"), one.client()
		exact.subscribe("news", events.Options{Exact: true})
		one.publish("1", "news.uk")
		synctest.Wait()
		news.want(t, "1 news.uk [news]")
		uk.want(t, "1 news.uk [news.uk]")
		london.want(t)
		sport.want(t)
		all.want(t, "1 news.uk [*]")
		both.want(t, "1 news.uk [news.uk news *]")
		exact.want(t)

		two.publish("2", "news")
		p := events.Publication{Topics: []shared.Topic{"newsletter.x", "sport"}, Event: event(t, "3")}
		if err := two.Publish(t.Context(), p); !errors.Is(err, shared.ErrUnknownTopic) {
			t.Errorf("one of the topics is unknown: %v", err)
		}
		synctest.Wait()
		news.want(t, "2 news [news]")
		exact.want(t, "2 news [news]")
		both.want(t, "2 news [news *]")
		sport.want(t)
	})
}

// However many topics of one event a client hears, the event comes once.
func TestAnEventForSeveralTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b membus.Broker
		h := newHub(t, &b, 0)
		h.register(events.AnyChannel, events.Channel{})
		x, y, both := h.client("x"), h.client("y.z"), h.client("y", "x")
		exact := h.client("y")
		exact.subscribe("y", events.Options{Exact: true})
		h.publish("1", "x", "y.z", "y")
		synctest.Wait()
		x.want(t, "1 x [x]")
		y.want(t, "1 y.z [y.z]")
		both.want(t, "1 x [x y]")
		exact.want(t, "1 y [y]")
	})
}

// A node that has a channel of one of an event's topics alone delivers the event there.
func TestAnEventForAChannelThatANodeDoesNotHave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b membus.Broker
		one, two := newHub(t, &b, 0), newHub(t, &b, 0)
		one.register("x", events.Channel{})
		one.register("y", events.Channel{})
		two.register("y", events.Channel{})
		c := two.client("y")
		one.publish("1", "x", "y")
		one.publish("2", "x")
		synctest.Wait()
		c.want(t, "1 y [y]")
	})
}

func TestWhoPublishesNeedNotHear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b membus.Broker
		one, two := newHub(t, &b, 0), newHub(t, &b, 0)
		one.register("x", events.Channel{})
		two.register("x", events.Channel{})
		a, c, other := one.client("x"), one.client("x"), two.client("x") // a and other have one number
		if err := one.Publish(t.Context(), events.Publication{Topics: []shared.Topic{"x"}, Event: event(t, "1"), Except: a.Client}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		a.want(t)
		c.want(t, "1 x [x]")
		other.want(t, "1 x [x]")
	})
}

func TestUnsubscribing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b membus.Broker
		h := newHub(t, &b, 0)
		h.register("a", events.Channel{})
		c := h.client("a", "a.b")
		c.Unsubscribe("a")
		c.Unsubscribe("a.c")
		h.publish("1", "a.b")
		synctest.Wait()
		c.want(t, "retract a", "1 a.b [a.b]")
		if got := c.Topics(); !slices.Equal(got, []shared.Topic{"a.b"}) {
			t.Errorf("subscribed to %q", got)
		}
		c.Close()
		if err := c.Subscribe("a", events.Options{}); !errors.Is(err, shared.ErrClosed) {
			t.Errorf("subscribing after Close: %v", err)
		}
		h.publish("2", "a.b")
		synctest.Wait()
		c.want(t, "retract a.b")
		if s := h.Stats(); s.Subscriptions != 0 || s.Topics != 0 || s.Published != 2 || s.Delivered != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestWhatIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b membus.Broker
		h := newHub(t, &b, 0)
		c := h.client()
		if err := c.Subscribe("*", events.Options{}); !errors.Is(err, shared.ErrUnknownTopic) {
			t.Errorf("* without a channel: %v", err)
		}
		h.register("a", events.Channel{})
		for topic, want := range map[shared.Topic]error{"b": shared.ErrUnknownTopic, "": shared.ErrBadTopic, "a..b": shared.ErrBadTopic, "a.*": shared.ErrBadTopic} {
			if err := c.Subscribe(topic, events.Options{}); !errors.Is(err, want) {
				t.Errorf("subscribing to %q: %v, want %v", topic, err, want)
			}
			if err := h.Publish(t.Context(), events.Publication{Topics: []shared.Topic{topic}, Event: event(t, "1")}); !errors.Is(err, want) {
				t.Errorf("publishing to %q: %v, want %v", topic, err, want)
			}
			if _, err := h.NewEvent(topic, 1); !errors.Is(err, want) {
				t.Errorf("an event for %q: %v, want %v", topic, err, want)
			}
		}
		many := make([]shared.Topic, 17)
		for i := range many {
			many[i] = shared.Topic(fmt.Sprint("a.", i))
		}
		for what, p := range map[string]events.Publication{
			"no topic": {Event: event(t, "1")}, "everything": {Topics: []shared.Topic{"*"}, Event: event(t, "1")},
			"one twice": {Topics: []shared.Topic{"a", "a"}, Event: event(t, "1")}, "17 topics": {Topics: many, Event: event(t, "1")},
		} {
			if err := h.Publish(t.Context(), p); !errors.Is(err, shared.ErrBadTopic) {
				t.Errorf("%s: %v, want ErrBadTopic", what, err)
			}
		}
		if err := h.Publish(t.Context(), events.Publication{Topics: []shared.Topic{"a"}}); !errors.Is(err, shared.ErrBadEvent) {
			t.Errorf("without an event: %v", err)
		}
		if _, err := h.NewEvent("a", func() {}); !errors.Is(err, shared.ErrBadEvent) {
			t.Errorf("an event of what cannot be encoded: %v", err)
		}
		if _, err := h.NewEvent("a", strings.Repeat("x", shared.MaxEventBytes)); !errors.Is(err, shared.ErrTooLarge) {
			t.Errorf("an event of more than there is room for: %v", err)
		}
		for name, want := range map[string]error{"a": shared.ErrDuplicateChannel, "": shared.ErrBadTopic, "a.b": shared.ErrBadTopic} {
			if err := h.Register(name, events.Channel{}); !errors.Is(err, want) {
				t.Errorf("registering %q: %v, want %v", name, err, want)
			}
		}
		for _, c := range []events.Channel{{Keep: 1}, {KeepFor: 1}, {Keep: -1, KeepFor: 1}, {Keep: 1, KeepFor: -1}} {
			if err := h.Register("c", c); err == nil {
				t.Errorf("%+v is registered", c)
			}
		}
		b.SetDown(true)
		if err := h.Publish(t.Context(), events.Publication{Topics: []shared.Topic{"a"}, Event: event(t, "1")}); err == nil {
			t.Error("published while the bus is down")
		}
	})
}

func TestAnEventMadeOfData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b membus.Broker
		h := newHub(t, &b, 0)
		h.register("news", events.Channel{})
		h.register("own", events.Channel{Source: "/s", Type: "com.example.t"})
		e, err := h.NewEvent("news.uk", map[string]int{"a": 1})
		if err != nil || e.Source() != "/news/uk" || e.Type() != "event" || string(e.Data()) != `{"a":1}` || !e.Time().Equal(time.Now()) {
			t.Errorf("%s, %v", e.JSON(), err)
		}
		other, err := h.NewEvent("own", json.RawMessage(`[ 1 ]`))
		if err != nil || other.Source() != "/s" || other.Type() != "com.example.t" || string(other.Data()) != `[1]` || other.ID() == e.ID() {
			t.Errorf("%s, %v", other.JSON(), err)
		}
	})
}

// While the bus is away events are missed: each subscription that was there is told.
func TestWhatMayBeMissedIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b membus.Broker
		h := newHub(t, &b, 0)
		h.register("a", events.Channel{})
		c := h.client("a", "*")
		c.want(t)
		b.SetDown(true)
		c.want(t)
		b.SetDown(false)
		got := c.take()
		slices.Sort(got)
		if !slices.Equal(got, []string{"gap *", "gap a"}) {
			t.Errorf("told %q", got)
		}
		late := h.client("a")
		h.publish("1", "a")
		synctest.Wait()
		late.want(t, "1 a [a]")
	})
}

func TestLatest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b membus.Broker
		h := newHub(t, &b, 0)
		h.register("cursors", events.Channel{Latest: true})
		h.register("news", events.Channel{})
		var latest, fences []bool
		c := h.NewClient(deliveries(func(d *events.Delivery) {
			latest, fences = append(latest, d.Latest), append(fences, d.Fence)
		}))
		defer c.Close()
		for _, topic := range []shared.Topic{"cursors", "news"} {
			if err := c.Subscribe(topic, events.Options{}); err != nil {
				t.Fatal(err)
			}
		}
		h.publish("1", "cursors.a")
		h.publish("2", "news")
		h.publish("3", "cursors.a", "cursors.b") // for who hears one of them it may be the only one
		h.publish("4", "news", "cursors.a")
		h.publish("5", "news", "news.uk")
		synctest.Wait()
		if !slices.Equal(latest, []bool{true, false, false, false, false}) || !slices.Equal(fences, []bool{false, false, true, true, false}) {
			t.Errorf("the latest: %v, fences: %v", latest, fences)
		}
	})
}

// deliveries is a Sink of events alone.
type deliveries func(*events.Delivery)

func (f deliveries) Event(d *events.Delivery) { f(d) }
func (deliveries) Gap(shared.Topic, uint64)   {}
func (deliveries) Retract(shared.Topic)       {}

// Clients whose subscriptions match in the same way get one and the same Delivery, which is
// encoded once.
func TestADeliveryIsBuiltOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b membus.Broker
		h := newHub(t, &b, 0)
		h.register("a", events.Channel{})
		var got []*events.Delivery
		encoded := &counting{}
		for i := range 6 {
			c := h.NewClient(deliveries(func(d *events.Delivery) {
				got = append(got, d)
				d.Encoded(encoded)
			}))
			defer c.Close()
			topics := []shared.Topic{"a", "a.b"}
			for _, topic := range topics[:1+i%2] {
				if err := c.Subscribe(topic, events.Options{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		h.publish("1", "a.b")
		synctest.Wait()
		distinct := map[*events.Delivery]bool{}
		for _, d := range got {
			distinct[d] = true
		}
		if len(got) != 6 || len(distinct) != 2 || encoded.n != 2 {
			t.Errorf("6 clients got %d deliveries, %d of them different, encoded %d times", len(got), len(distinct), encoded.n)
		}
	})
}

type counting struct{ n int }

func (c *counting) EncodeEvent(*events.Delivery) []byte {
	c.n++
	return []byte("x")
}

// A listener hears what clients do, and is told where it does not keep up.
func TestListening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b membus.Broker
		h := newHub(t, &b, 0)
		h.register("a", events.Channel{})
		gate := make(chan struct{}, 1)
		var got []events.Received
		stop, err := h.Listen("a", events.Options{}, func(r events.Received) {
			got = append(got, r)
			<-gate
		})
		if err != nil {
			t.Fatal(err)
		}
		const many = 1500
		for n := range many {
			h.publish(fmt.Sprint(n), "a.b")
		}
		b.SetDown(true)
		b.SetDown(false)
		synctest.Wait()
		close(gate)
		synctest.Wait()
		if len(got) != 1+1+1024+1 || got[0].Event.ID() != "0" || got[0].Topic != "a.b" {
			t.Fatalf("heard %d, the first %+v", len(got), got[0])
		}
		if gap := got[1]; !gap.Gap || gap.Missed != many-1-1024 || !gap.Event.IsZero() {
			t.Errorf("where it did not keep up: %+v", gap)
		}
		for i, r := range got[2 : 2+1024] {
			if want := fmt.Sprint(many - 1024 + i); r.Event.ID() != want {
				t.Fatalf("heard %s, want %s", r.Event.ID(), want)
			}
		}
		if gap := got[len(got)-1]; !gap.Gap || gap.Missed != 0 {
			t.Errorf("where the bus was away: %+v", gap)
		}
		stop()
		stop()
		h.publish("late", "a")
		synctest.Wait()
		if len(got) != 1+1+1024+1 {
			t.Error("it heard more after it was stopped")
		}
		if _, err := h.Listen("x", events.Options{}, nil); !errors.Is(err, shared.ErrUnknownTopic) {
			t.Errorf("listening to what is unknown: %v", err)
		}
		if err := h.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := h.Listen("a", events.Options{}, nil); !errors.Is(err, shared.ErrClosed) {
			t.Errorf("listening after Close: %v", err)
		}
	})
}
