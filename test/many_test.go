package test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

func manyItems(n int, id string) []shared.EntityKey {
	keys := make([]shared.EntityKey, n)
	for i := range keys {
		keys[i] = item(fmt.Sprintf(id, i))
	}
	return keys
}

// One call announces very many keys, as long as its context allows: each once, though nsqd
// goes away in between, where what is left is announced by the next call.
func TestVeryManyKeysInOneCall(t *testing.T) {
	const enough = 10 * time.Minute // for a million, on a machine that is busy
	for name, test := range map[string]struct {
		keys  []shared.EntityKey
		fails bool
	}{
		"short ones":        {keys: manyItems(sized(100_000, 1_000_000), "%d")},
		"long ones":         {keys: manyItems(sized(10_000, 100_000), strings.Repeat("x", 249)+"%06d")},
		"nsqd is restarted": {keys: manyItems(sized(100_000, 300_000), "%d"), fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			nsqd := nsqdtest.Start(t)
			var db database
			config := es.Config{NSQAddr: nsqd.Addr}
			config.NSQ.Heartbeat = time.Minute // or nsqd lets a node go that a busy machine keeps from answering, with what waits for it
			config.Bridge.PublishTimeout = enough
			config.Web.PongWait = enough // the client reads nothing until all is announced
			here, there := startNode(t, &db, config), startNode(t, &db, config)
			untilReady(t, here, there)
			c := there.dial(t, "me")
			c.watch("100")
			ctx, cancel := context.WithTimeout(t.Context(), enough)
			defer cancel()
			before := there.Bridge.Stats().Notified
			begin := time.Now()
			done := make(chan error, 1)
			go func() { done <- here.EntitySync.Notify(ctx, test.keys...) }()
			acknowledged := len(test.keys)
			if test.fails {
				testkit.Until(t, "some are announced", func() bool { return there.Bridge.Stats().Notified > before+uint64(len(test.keys)/10) })
				nsqd.Kill(t)
			}
			err := <-done
			if left := new(shared.NotAnnouncedError); test.fails && errors.As(err, &left) {
				acknowledged -= len(left.Keys)
				if acknowledged < len(test.keys)/20 { // what was heard last may not have been acknowledged
					t.Errorf("%d keys were acknowledged", acknowledged)
				}
				nsqd.Start(t)
				untilReady(t, here, there)
				before = there.Bridge.Stats().Notified
				err = here.EntitySync.Notify(ctx, left.Keys...)
				acknowledged = len(left.Keys)
			} // else all were announced before nsqd was gone
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d keys announced in %v", acknowledged, time.Since(begin).Round(time.Millisecond))
			if !testkit.Within(enough, func() bool { return there.Bridge.Stats().Notified >= before+uint64(acknowledged) }) {
				t.Fatalf("another node has heard of %d keys, want %d", there.Bridge.Stats().Notified-before, acknowledged)
			}
			const texts = 10 // on the topic of sessions, which count as well
			if got := there.Bridge.Stats().Notified - before; got > uint64(acknowledged+texts) {
				t.Errorf("another node has heard of %d keys, want %d", got, acknowledged)
			}
			if test.fails && acknowledged == len(test.keys) {
				return // and nsqd is gone
			}
			rev := db.write("100")
			here.notify(t, "100")
			c.readUntil(rev)
		})
	}
}

// An nsqd with a small --max-msg-size: keys go in messages that it takes, and those of a
// second nsqd, which takes more, as well.
func TestAnNSQDThatTakesSmallMessagesAlone(t *testing.T) {
	t.Parallel()
	const size = 600
	one := nsqdtest.StartWith(t, nsqdtest.Options{MaxMsgSize: size})
	two := nsqdtest.StartWith(t, nsqdtest.Options{MaxMsgSize: size / 2})
	var db database
	config := es.Config{NSQAddr: one.Addr + "," + two.Addr}
	here, there := startNode(t, &db, config), startNode(t, &db, config)
	untilReady(t, here, there)
	c := there.dial(t, "me")
	c.watch("999")
	for range 2 { // the second time with one that takes less
		before := there.Bridge.Stats().Notified
		keys := manyItems(1000, "%d")
		if err := here.Notify(t.Context(), keys...); err != nil {
			t.Fatal(err)
		}
		testkit.Until(t, "each key was heard", func() bool { return there.Bridge.Stats().Notified >= before+1000 })
		rev := db.write("999")
		here.notify(t, manyIDs(1000)...)
		c.readUntil(rev)
		one.Stop(t)
		testkit.Until(t, "the nodes have noticed", func() bool { return goneFrom(here) == one.Addr && goneFrom(there) == one.Addr })
	}
	if err := here.Notify(t.Context(), item(strings.Repeat("x", 255))); !errors.Is(err, bus.ErrTooLarge) {
		t.Errorf("Notify of a key that nsqd has no room for returned %v", err)
	}
	if s := there.Bridge.Stats(); s.BadMessages > 0 {
		t.Errorf("a node could not read %d messages", s.BadMessages)
	}
}

func manyIDs(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprint(i)
	}
	return ids
}
