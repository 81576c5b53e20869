package nsqbus

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// These tests say what was found and subscribed, in fake time and without a
// network. What becomes of it on a real one is tested in the test module.

// newCluster returns a bus that asks nobody, and a subscription that runs nowhere.
func newCluster(t *testing.T, given ...string) (*Bus, *subscription) {
	t.Helper()
	b, err := New(Config{Addrs: given, LookupAddrs: []string{"lookupd:4161"}})
	if err != nil {
		t.Fatal(err)
	}
	b.discovering = true
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b, newSubscription(b, "items")
}

// order returns the addresses that are published to, in order.
func (b *Bus) order(t *testing.T) string {
	t.Helper()
	brokers, err := b.publishOrder("items")
	if err != nil {
		return err.Error()
	}
	var addrs []string
	for _, br := range brokers {
		addrs = append(addrs, br.addr)
	}
	return fmt.Sprint(addrs)
}

func wantOrder(t *testing.T, b *Bus, when, want string) {
	t.Helper()
	if got := b.order(t); got != want {
		t.Errorf("%s: published to %s, want %s", when, got, want)
	}
}

func TestWhichNSQDIsPublishedToFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, sub := newCluster(t, "given:1")
		b.heard("one", []string{"a:1", "b:1"})
		b.subscriptions["items"] = sub
		given, a, bb := b.broker("given:1"), b.broker("a:1"), b.broker("b:1")

		wantOrder(t, b, "before any is subscribed", "[given:1]")
		b.subscribed(a, sub)
		wantOrder(t, b, "an unproven one and none else reached", "[a:1 given:1]")
		b.subscribed(given, sub)
		wantOrder(t, b, "a static one and an unproven one", "[given:1 a:1]")

		time.Sleep(2*defaultLookupInterval - time.Millisecond)
		b.healthy.Store(a)
		wantOrder(t, b, "a moment before it can be settled", "[given:1 a:1]")
		b.subscribed(bb, sub)
		time.Sleep(defaultLookupInterval + time.Millisecond)
		wantOrder(t, b, "settled, and good last time; the other is unproven", "[a:1 given:1 b:1]")
		time.Sleep(2 * defaultLookupInterval)
		wantOrder(t, b, "all settled", "[a:1 given:1 b:1]")

		// Who starts now cannot find what is on no list.
		b.heard("one", []string{"b:1"})
		wantOrder(t, b, "off the list", "[given:1 b:1 a:1]")
		b.heard("one", []string{"a:1", "b:1"})
		wantOrder(t, b, "on it again, but just now", "[given:1 b:1 a:1]")
		time.Sleep(3 * defaultLookupInterval)
		wantOrder(t, b, "on it again, and settled", "[a:1 given:1 b:1]")
		b.unheard("one")
		wantOrder(t, b, "nobody answers", "[a:1 given:1 b:1]")

		b.unsubscribed(a)
		wantOrder(t, b, "connection lost", "[given:1 b:1 a:1]")
		b.unsubscribed(given)
		b.unsubscribed(bb)
		wantOrder(t, b, "all lost", "[a:1 given:1 b:1]")
	})
}

// A node that listens to nothing has no subscription to wait for.
func TestAPublisherWithoutSubscriptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newCluster(t)
		wantOrder(t, b, "nothing found", errNoneFound.Error())
		b.heard("one", []string{"a:1"})
		wantOrder(t, b, "found", "[a:1]")
	})
}

func TestWhenAnNSQDIsLetGo(t *testing.T) {
	const afterwards = letGoAfter*defaultLookupInterval + time.Millisecond
	for name, tt := range map[string]struct {
		happens func(b *Bus, a *broker)
		gone    bool
	}{
		"unlisted and unreachable for long": {func(b *Bus, _ *broker) {
			b.heard("one", nil)
			time.Sleep(afterwards)
			b.heard("one", nil)
		}, true},
		"unlisted for less": {func(b *Bus, _ *broker) {
			b.heard("one", nil)
			time.Sleep(afterwards - 2*time.Millisecond)
			b.heard("one", nil)
		}, false},
		"unlisted and reached": {func(b *Bus, a *broker) {
			b.subscribed(a, newSubscription(b, "items"))
			b.heard("one", nil)
			time.Sleep(afterwards)
			b.heard("one", nil)
		}, false},
		"unreachable for less": {func(b *Bus, a *broker) {
			b.subscribed(a, newSubscription(b, "items"))
			b.heard("one", nil)
			time.Sleep(afterwards)
			b.unsubscribed(a)
			b.heard("one", nil)
		}, false},
		"unlisted, then listed in between": {func(b *Bus, _ *broker) {
			b.heard("one", nil)
			time.Sleep(afterwards / 2)
			b.heard("one", []string{"a:1"})
			b.heard("one", nil)
			time.Sleep(afterwards / 2)
			b.heard("one", nil)
		}, false},
		"listed by another": {func(b *Bus, _ *broker) {
			b.heard("two", []string{"a:1"})
			b.heard("one", nil)
			time.Sleep(afterwards)
			b.heard("one", nil)
		}, false},
		"listed by another that does not answer any more": {func(b *Bus, _ *broker) {
			b.heard("two", []string{"a:1"})
			b.heard("one", nil)
			b.unheard("two")
			time.Sleep(afterwards)
			b.heard("one", nil)
		}, true},
		"nobody answers": {func(b *Bus, _ *broker) {
			for range 3 {
				b.unheard("one")
				time.Sleep(afterwards)
			}
		}, false},
		"nobody answered for long, then one that lists it not": {func(b *Bus, _ *broker) {
			b.unheard("one")
			time.Sleep(afterwards)
			b.heard("two", nil)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, _ := newCluster(t, "given:1")
				b.heard("one", []string{"a:1"})
				a := b.broker("a:1")
				tt.happens(b, a)
				if gone := b.broker("a:1") == nil; gone != tt.gone || gone != (a.ctx.Err() != nil) {
					t.Errorf("gone: %v, its context: %v; want gone: %v", gone, a.ctx.Err(), tt.gone)
				}
				if b.broker("given:1") == nil {
					t.Error("one that was given is gone")
				}
			})
		})
	}
}

func TestNoMoreThanAHundredAreBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newCluster(t, "given:1", "given:2")
		many := func(name string) (addrs []string) {
			for i := range 1000 {
				addrs = append(addrs, fmt.Sprintf("%s:%d", name, i+1))
			}
			return addrs
		}
		b.heard("one", many("a"))
		if got := len(b.cluster.brokers); got != 102 {
			t.Errorf("%d brokers, want 2 given and 100 found", got)
		}
		b.heard("one", many("b"))
		if b.broker("a:1") == nil || b.broker("b:1") != nil {
			t.Error("those that were found made room for others at once")
		}
		time.Sleep(letGoAfter*defaultLookupInterval + time.Millisecond)
		b.heard("one", many("b")) // lets the first hundred go
		b.heard("one", many("b"))
		if got := len(b.cluster.brokers); got != 102 || b.broker("a:1") != nil || b.broker("b:1") == nil {
			t.Errorf("%d brokers, want 2 given and 100 of the others", got)
		}
	})
}

// The first of many must not be given up after a hundredth of the time.
func TestTheFirstOfManyGetsAQuarterOfTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for n, want := range map[int]time.Duration{
			1: time.Second, 2: time.Second / 2, 4: time.Second / 4, 100: time.Second / 4,
		} {
			ctx, cancel := share(ctx, n)
			defer cancel()
			if end, _ := ctx.Deadline(); time.Until(end) != want {
				t.Errorf("of a second, one of %d gets %v, want %v", n, time.Until(end), want)
			}
		}
	})
}

func TestLookupdIsAskedAtTheIntervalWithJitter(t *testing.T) {
	b, _ := newCluster(t, "given:1")
	none, _ := newCluster(t)
	seen := map[time.Duration]bool{}
	for range 200 {
		got := b.untilNextPoll()
		if got < defaultLookupInterval/2 || got > defaultLookupInterval {
			t.Fatalf("asked again after %v, want 2.5s to 5s", got)
		}
		seen[got] = true
		if got := none.untilNextPoll(); got < time.Second/2 || got > time.Second {
			t.Fatalf("with no nsqd known asked again after %v, want 0.5s to 1s", got)
		}
	}
	if len(seen) < 100 {
		t.Errorf("%d different waits of 200: no jitter", len(seen))
	}
}
