package events_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entity-sync/entity-sync/bridge/events"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/shared"
)

// afterwards is when nothing that came to a node, or was missed, may be news to who comes from
// another node with an event that comes now.
const afterwards = 7 * time.Second

// A client that comes back gets what came after the last event that it has, on any node.
func TestWhatAChannelKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b membus.Broker
		one, two := newHub(t, &b, 0), newHub(t, &b, 0)
		for _, h := range []*hub{one, two} {
			h.register("a", events.Channel{Keep: 3, KeepFor: time.Minute})
			h.register("b", events.Channel{Keep: 3, KeepFor: time.Minute})
			h.register("c", events.Channel{})
		}
		time.Sleep(afterwards)
		for n, topic := range []shared.Topic{"a", "a.x", "b", "a.x.y", "c"} {
			one.publish(fmt.Sprint(n), topic)
			time.Sleep(time.Second)
		}
		after := func(topic shared.Topic, id string, exact bool) *client {
			c := two.client()
			c.subscribe(topic, events.Options{After: id, Exact: exact})
			return c
		}
		after("a", "0", false).want(t, "1 a.x [a]", "3 a.x.y [a]")
		after("a", "0", true).want(t)
		after("a.x", "1", false).want(t, "3 a.x.y [a.x]")
		after("a.x", "0", false).want(t, "gap a.x")                                    // which it cannot have had
		after("*", "0", false).want(t, "gap *", "1 a.x [*]", "2 b [*]", "3 a.x.y [*]") // 4 is not kept
		after("a", "9", false).want(t, "gap a")
		after("c", "4", false).want(t, "gap c") // nothing is kept of it
		c := after("a", "3", false)
		one.publish("5", "a")
		synctest.Wait()
		c.want(t, "5 a [a]")
	})
}

// Events of other publishers that came shortly before may have come later to another node.
func TestEventsOfOtherPublishersAreHandedOverAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b membus.Broker
		one, two := newHub(t, &b, 0), newHub(t, &b, 0)
		for _, h := range []*hub{one, two} {
			h.register("a", events.Channel{Keep: 10, KeepFor: time.Minute})
		}
		one.publish("long ago", "a")
		time.Sleep(afterwards)
		one.publish("before", "a")
		time.Sleep(5 * time.Second)
		two.publish("same", "a")
		two.publish("last", "a")
		two.publish("next", "a")
		c := one.client()
		c.subscribe("a", events.Options{After: "last"})
		c.want(t, "before a [a]", "next a [a]")
	})
}

// What is kept is bounded by number, by time and by size. Who asks for what may be dropped is
// told.
func TestWhatIsKeptIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b membus.Broker
		h := newHub(t, &b, 20_000)
		h.register("a", events.Channel{Keep: 2, KeepFor: time.Minute})
		h.register("b", events.Channel{Keep: 1000, KeepFor: time.Hour})
		h.register("c", events.Channel{Keep: 2, KeepFor: time.Second})
		time.Sleep(afterwards)
		again := func(topic shared.Topic, id string) *client {
			c := h.client()
			c.subscribe(topic, events.Options{After: id})
			return c
		}
		h.publish("1", "a.x")
		for n := range 4 {
			h.publish(fmt.Sprint(2+n), "a.y") // 2 and 3 are dropped
		}
		again("a.x", "1").want(t)
		again("a", "1").want(t, "gap a", "4 a.y [a]", "5 a.y [a]")
		again("a", "4").want(t, "5 a.y [a]")
		h.publish("6", "c")
		h.publish("7", "c.x")
		time.Sleep(2 * time.Second)
		again("c", "6").want(t, "gap c")
		again("a", "4").want(t, "5 a.y [a]") // what is dropped of another channel is nothing to it
		for n := range 100 {
			h.publish(fmt.Sprint(100+n), "b")
		}
		if kept := h.Stats().Kept; kept > 20_000 || kept < 19_000 {
			t.Errorf("%d bytes are kept, want some 20,000", kept)
		}
		again("b", "100").want(t, "gap b")
		again("b", "198").want(t, "199 b [b]")
		time.Sleep(2 * time.Hour)
		h.publish("8", "b")
		if kept := h.Stats().Kept; kept > 1000 {
			t.Errorf("%d bytes are kept after an hour, want those of one event", kept)
		}
	})
}

// What may have been missed while a node remembered is told to who comes back to it.
func TestAGapInWhatIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b membus.Broker
		h := newHub(t, &b, 0)
		h.register("a", events.Channel{Keep: 10, KeepFor: time.Minute})
		h.publish("1", "a")
		b.SetDown(true)
		b.SetDown(false)
		time.Sleep(afterwards)
		h.publish("2", "a")
		h.publish("3", "a")
		for id, want := range map[string][]string{"1": {"gap a", "2 a [a]", "3 a [a]"}, "2": {"3 a [a]"}} {
			c := h.client()
			c.subscribe("a", events.Options{After: id})
			c.want(t, want...)
		}
	})
}

// A client comes back while a message of the bus is late: it is told if the message is lost.
func TestAHoleThatWasOpenWhenAClientCameBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b membus.Broker
		h := newHub(t, &b, 0)
		h.register("a", events.Channel{Keep: 10, KeepFor: time.Minute})
		time.Sleep(afterwards)
		program := b.NewNode()
		defer program.Close(t.Context())
		say := func(number int) {
			body := fmt.Sprintf(`{"entity":"es.events","records":[{"topic":"a","event":%s}],"from":"x","seq":%d,"at":%d}`,
				event(t, fmt.Sprint(number)).JSON(), number, time.Now().UnixMilli())
			if err := program.Publish(t.Context(), "es.events", []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
		say(1)
		say(3)
		c := h.client()
		c.subscribe("a", events.Options{After: "1"})
		c.want(t)
		time.Sleep(2 * time.Second)
		c.want(t, "gap a", "3 a [a]")
	})
}

// An event is kept where one of its topics' channels keeps it. Who comes back is told of those
// that are not.
func TestChannelsThatKeepNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b membus.Broker
		h := newHub(t, &b, 0)
		h.register("a", events.Channel{Keep: 2, KeepFor: time.Minute})
		h.register("b", events.Channel{})
		h.register(events.AnyChannel, events.Channel{})
		time.Sleep(afterwards)
		again := func(topic shared.Topic, id string) *client {
			c := h.client()
			c.subscribe(topic, events.Options{After: id})
			return c
		}
		h.publish("1", "a", "b")
		h.publish("2", "b", "a.x")
		h.publish("3", "other")
		again("a", "1").want(t, "2 a.x [a]")
		again("b", "1").want(t, "2 b [b]")
		again("*", "1").want(t, "gap *", "2 b [*]")
		h.publish("4", "b")
		again("a", "1").want(t, "2 a.x [a]")
		again("b", "1").want(t, "gap b", "2 b [b]")
		for n := range 3 {
			h.publish(fmt.Sprint(5+n), "a.x", "b")
		}
		time.Sleep(10 * time.Second)
		h.publish("8", "a", "b")
		again("a", "1").want(t, "gap a", "6 a.x [a]", "7 a.x [a]", "8 a [a]")
		time.Sleep(2 * time.Minute) // nothing is kept any more
		h.publish("9", "a")
		again("a", "8").want(t, "gap a")
	})
}

// What others published shortly before, and is not kept, is not known to who comes back.
func TestWhatIsGoneOfOtherPublishers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b membus.Broker
		one, two := newHub(t, &b, 0), newHub(t, &b, 0)
		for _, h := range []*hub{one, two} {
			h.register("a", events.Channel{Keep: 1, KeepFor: time.Minute})
			h.register("b", events.Channel{})
		}
		time.Sleep(afterwards)
		again := func(topic shared.Topic, id string) *client {
			c := one.client()
			c.subscribe(topic, events.Options{After: id})
			return c
		}
		one.publish("1", "b")
		one.publish("2", "a")
		again("*", "2").want(t)
		two.publish("3", "a")
		again("*", "3").want(t, "gap *") // 1 and 2
		again("a", "3").want(t, "gap a")
		one.publish("4", "b")
		two.publish("5", "a")
		two.publish("6", "b")
		time.Sleep(afterwards)
		two.publish("7", "a")
		again("*", "7").want(t)
		again("a", "7").want(t)
	})
}

func TestAfterAnEventOfEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b membus.Broker
		h := newHub(t, &b, 0)
		h.register("a", events.Channel{Keep: 10, KeepFor: time.Minute})
		time.Sleep(afterwards)
		h.publish("1", "a")
		h.publish("2", "a")
		c := h.client()
		c.subscribe("*", events.Options{After: "1", Exact: true})
		c.want(t, "2 a [*]")
	})
}

// What a client need not hear it is not handed when it asks for what came after another event.
func TestOwnEventsAreNotHandedOverAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b membus.Broker
		h := newHub(t, &b, 0)
		h.register("a", events.Channel{Keep: 10, KeepFor: time.Minute})
		time.Sleep(afterwards)
		c := h.client()
		h.publish("1", "a")
		if err := h.Publish(t.Context(), events.Publication{Topics: []shared.Topic{"a"}, Event: event(t, "2"), Except: c.Client}); err != nil {
			t.Fatal(err)
		}
		h.publish("3", "a")
		c.subscribe("a", events.Options{After: "1"})
		c.want(t, "3 a [a]")
	})
}
