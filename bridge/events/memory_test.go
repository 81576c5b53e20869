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
		after("a.x", "0", false).want(t, "gap a.x") // which it cannot have had
		after("*", "0", false).want(t, "1 a.x [*]", "2 b [*]", "3 a.x.y [*]")
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
		time.Sleep(3 * time.Second)
		one.publish("before", "a")
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
		time.Sleep(time.Millisecond)
		h.publish("2", "a")
		h.publish("3", "a")
		for id, want := range map[string][]string{"1": {"gap a", "2 a [a]", "3 a [a]"}, "2": {"3 a [a]"}} {
			c := h.client()
			c.subscribe("a", events.Options{After: id})
			c.want(t, want...)
		}
	})
}
