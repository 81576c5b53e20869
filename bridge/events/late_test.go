package events_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/entity-sync/entity-sync/bridge/events"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/shared"
)

func (h *hub) after(topic shared.Topic, id string) *client {
	c := h.client()
	c.subscribe(topic, events.Options{After: id})
	return c
}

// A channel may be registered while events of the channel's topics are remembered because of
// their other topics.
func TestAChannelThatIsRegisteredLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b membus.Broker
		one, two := newHub(t, &b, 0), newHub(t, &b, 0)
		keep := events.Channel{Keep: 3, KeepFor: time.Minute}
		one.register("a", keep)
		one.register("b", keep)
		two.register("b", keep)
		time.Sleep(afterwards)
		one.publish("1", "a.x", "b")
		one.publish("2", "a.x") // which node two ignores
		synctest.Wait()
		two.register("a", keep)
		time.Sleep(afterwards)
		one.publish("3", "a.x", "b")
		one.publish("4", "a.x")
		synctest.Wait()
		two.after("a.x", "1").want(t, "gap a.x", "3 a.x [a.x]", "4 a.x [a.x]")
		two.after("a.x", "3").want(t, "4 a.x [a.x]")
		for _, id := range []string{"5", "6", "7"} {
			one.publish(id, "b") // the first event is dropped
		}
		synctest.Wait()
		two.after("a.x", "1").want(t, "gap a.x")
		two.after("a.x", "3").want(t, "gap a.x") // and so is the third
		two.after("b", "5").want(t, "6 b [b]", "7 b [b]")
	})
}

// A channel that had the rule of all others is forgotten under its own name.
func TestAChannelThatHadTheRuleOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b membus.Broker
		h := newHub(t, &b, 0)
		h.register(events.AnyChannel, events.Channel{Keep: 5, KeepFor: time.Minute})
		time.Sleep(afterwards)
		h.publish("1", "a.x")
		h.register("a", events.Channel{Keep: 1, KeepFor: time.Second})
		time.Sleep(afterwards)
		h.publish("2", "a", "b")
		h.publish("3", "a.x")
		synctest.Wait()
		h.after("a", "2").want(t, "3 a.x [a]")
		time.Sleep(2 * time.Second)
		h.after("a", "2").want(t, "gap a")
	})
}

// An id may come twice: from two sources, or because who published the event tried again. Who
// names it may have the first of them alone.
func TestAnIDThatComesTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b membus.Broker
		h := newHub(t, &b, 0)
		h.register("a", events.Channel{Keep: 5, KeepFor: time.Minute})
		time.Sleep(afterwards)
		for _, id := range []string{"1", "2", "1", "3"} {
			h.publish(id, "a")
		}
		synctest.Wait()
		h.after("a", "1").want(t, "2 a [a]", "1 a [a]", "3 a [a]")
		h.after("a", "2").want(t, "1 a [a]", "3 a [a]")
		h.publish("1", "a")
		h.publish("4", "a") // the first is dropped
		synctest.Wait()
		h.after("a", "1").want(t, "gap a")
		for range 5 {
			h.publish("5", "a") // no event has the id 1 any more
		}
		h.publish("1", "a")
		h.publish("6", "a")
		synctest.Wait()
		h.after("a", "1").want(t, "6 a [a]")
	})
}
