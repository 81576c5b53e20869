package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/shared"
)

// ailing is a database that can be down, and counts who asks.
type ailing struct {
	down  atomic.Bool
	asked atomic.Int64
}

func (a *ailing) fetch(context.Context, shared.EntityKey, string) ([][]byte, error) {
	a.asked.Add(1)
	if a.down.Load() {
		return nil, errors.New("down")
	}
	time.Sleep(time.Millisecond)
	return [][]byte{[]byte("row")}, nil
}

// After an outage nobody waits for its back-off to end.
func TestWhenAnOutageEndsEverybodyIsServedSoon(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var db ailing
		n := newNode(t, &membus.Broker{})
		n.register(t, db.fetch, bridge.EntityOptions{Workers: 4})
		db.down.Store(true)
		s := newScreen(n, "")
		for i := range 500 {
			s.subscribe(t, shared.EntityKey{Entity: items, ID: fmt.Sprint(i)}, withSnapshot)
		}
		time.Sleep(10 * time.Minute) // every back-off is up to 30 s by now
		before := db.asked.Load()
		time.Sleep(time.Minute)
		if perView := float64(db.asked.Load()-before) / 500; perView > 6 {
			t.Errorf("a database that is down is asked %.1f times a minute for each view", perView)
		}
		db.down.Store(false)
		time.Sleep(2 * time.Second)
		if got := len(s.all()); got != 500 {
			t.Errorf("2 s after it came back %d of 500 are served", got)
		}
	})
}

// News of a key that backs off is an occasion to try, but not for a storm.
func TestNewsCutABackOffShort(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var db ailing
		n := newNode(t, &membus.Broker{})
		n.register(t, db.fetch, bridge.EntityOptions{Retry: bridge.Retry{Min: time.Hour, Max: time.Hour}})
		db.down.Store(true)
		s := newScreen(n, "")
		s.subscribe(t, key, bridge.SubscribeOptions{})
		for range 1000 { // a second of a thousand notifications
			n.notify(t, key)
			time.Sleep(time.Millisecond)
		}
		if got := db.asked.Load(); got < 5 || got > 12 {
			t.Errorf("asked %d times in a second of news, want about 10", got)
		}
		db.down.Store(false)
		time.Sleep(time.Second)
		n.notify(t, key)
		synctest.Wait()
		time.Sleep(10 * time.Millisecond)
		if got := len(s.all()); got != 1 {
			t.Errorf("saw %d updates after the news, want 1", got)
		}
	})
}

// One key that is broken, among others that work, keeps to its back-off.
func TestOneBrokenKeyIsNotTriedForEveryOtherThatWorks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var broken atomic.Int64
		n := newNode(t, &membus.Broker{})
		n.register(t, func(_ context.Context, k shared.EntityKey, _ string) ([][]byte, error) {
			if k == key {
				broken.Add(1)
				return nil, errors.New("broken")
			}
			return [][]byte{[]byte("row")}, nil
		}, bridge.EntityOptions{})
		s := newScreen(n, "")
		s.subscribe(t, key, withSnapshot)
		s.subscribe(t, other, withSnapshot)
		for range 60_000 { // a minute
			n.notify(t, other)
			time.Sleep(time.Millisecond)
		}
		if got := broken.Load(); got > 40 {
			t.Errorf("the broken key was tried %d times in a minute", got)
		}
	})
}
