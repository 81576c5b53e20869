package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/shared"
)

// AddStale notes what the client would be told between its updates.
func (s *screen) AddStale(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.stale > 0
	s.stale += n
	switch now := s.stale > 0; {
	case was && !now:
		s.told = append(s.told, "fresh")
	case now && !was:
		s.told = append(s.told, "stale")
	}
}

// story returns what the client was told since it was last asked.
func (s *screen) story() (told []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	told, s.told = s.told, nil
	return told
}

func wantStory(t *testing.T, s *screen, when string, want ...string) {
	t.Helper()
	synctest.Wait()
	if got := s.story(); !slices.Equal(got, want) {
		t.Errorf("%s: the client was told %q, want %q", when, got, want)
	}
}

// However many entity types there are, a bus that is lost is two lines of the log,
// besides those for whoever looks closer.
func TestALostBusIsSaidOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var broker membus.Broker
		n := newNode(t, &broker)
		for _, entity := range []shared.EntityType{"items", "orders", "people"} {
			if err := n.Register(entity, fixedRow, bridge.EntityOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 {
			broker.SetDown(true)
			synctest.Wait()
			broker.SetDown(false)
			synctest.Wait()
		}
		warnings := strings.Count(n.log.String(), "level=WARN")
		lost, back := strings.Count(n.log.String(), "level=WARN msg=\"lost the bus"), strings.Count(n.log.String(), "level=WARN msg=\"the bus is back")
		if warnings != 6 || lost != 3 || back != 3 {
			t.Errorf("of three losses the log says:\n%s", n.log)
		}
	})
}

// While the bus is lost, and until everything was looked at again, a client that
// watches something knows that it may be out of date.
func TestALostBusIsNotHidden(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var broker membus.Broker
		n, gate := newNode(t, &broker), newGate()
		n.register(t, gate.fetch, bridge.EntityOptions{})
		s, other := newScreen(n, "me"), newScreen(n, "other")
		s.subscribe(t, key, bridge.SubscribeOptions{})
		wantStory(t, s, "at first")

		broker.SetDown(true)
		wantStory(t, s, "the bus is lost", "stale")
		if got := n.Stats().Stale; got != 1 {
			t.Errorf("%d clients are stale, want the one that watches", got)
		}
		other.subscribe(t, key, bridge.SubscribeOptions{})
		wantStory(t, other, "subscribed without a bus", "stale")
		other.Unsubscribe(key)
		wantStory(t, other, "unsubscribed", "fresh")

		broker.SetDown(false)
		<-gate.entered
		wantStory(t, s, "the bus is back, nothing looked at")
		gate.release <- row("1")
		wantStory(t, s, "a row", "row 1", "fresh")

		broker.SetDown(true)
		broker.SetDown(false)
		wantStory(t, s, "lost and back", "stale")
		<-gate.entered
		broker.SetDown(true)
		gate.release <- row("1")
		wantStory(t, s, "lost again while it was looked at")
		broker.SetDown(false)
		<-gate.entered
		gate.release <- row("1")
		wantStory(t, s, "nothing new", "fresh")
		s.Close()
		if got := n.Stats().Stale; got != 0 {
			t.Errorf("%d clients are stale, want none", got)
		}
	})
}

func TestFailingFetchesAreNotHidden(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, &membus.Broker{})
		var broken atomic.Bool
		n.register(t, func(context.Context, shared.EntityKey, string) ([][]byte, error) {
			if broken.Load() {
				return nil, errors.New("broken")
			}
			return [][]byte{[]byte("1")}, nil
		}, bridge.EntityOptions{})
		s := newScreen(n, "me")
		s.subscribe(t, key, withSnapshot)
		wantStory(t, s, "a snapshot", "row 1")
		broken.Store(true)
		n.notify(t, key)
		time.Sleep(time.Minute)
		wantStory(t, s, "broken", "stale")
		broken.Store(false)
		time.Sleep(time.Minute)
		wantStory(t, s, "mended", "row 1", "fresh")

		broken.Store(true)
		n.notify(t, key)
		wantStory(t, s, "broken again", "stale")
		s.become("another") // its view has not failed yet, nor has it been fetched
		wantStory(t, s, "with another secret")
		broken.Store(false)
		time.Sleep(time.Minute)
		wantStory(t, s, "fetched with it", "row 1", "fresh")
		broken.Store(true)
		n.notify(t, key)
		wantStory(t, s, "and broken once more", "stale")
		s.Close()
		if got := n.Stats().Stale; got != 0 {
			t.Errorf("%d clients are stale, want none", got)
		}
	})
}

// A change that cannot be fetched, because fetches hang or wait for others that do,
// is not hidden until one has failed.
func TestAChangeThatWaitsIsNotHidden(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n, gate := newNode(t, &membus.Broker{}), newGate()
		n.register(t, gate.fetch, bridge.EntityOptions{Workers: 1, Timeout: time.Minute})
		s, other := newScreen(n, "me"), newScreen(n, "other")
		s.subscribe(t, key, bridge.SubscribeOptions{})
		behind := shared.EntityKey{Entity: items, ID: "behind"}
		other.subscribe(t, behind, bridge.SubscribeOptions{})

		n.notify(t, key)
		time.Sleep(time.Second)
		gate.release <- row("1")
		time.Sleep(time.Minute)
		wantStory(t, s, "fetched within a second", "row 1")

		n.notify(t, key)
		n.notify(t, behind)
		time.Sleep(1900 * time.Millisecond)
		wantStory(t, s, "the fetch has hung for a while")
		time.Sleep(200 * time.Millisecond)
		wantStory(t, s, "for longer", "stale")
		wantStory(t, other, "waiting for it", "stale")
		n.notify(t, key) // to be fetched once more
		gate.release <- row("2")
		wantStory(t, s, "a row at last", "row 2", "fresh")
		gate.release <- row("3")
		wantStory(t, other, "its turn", "row 3", "fresh")
		gate.release <- row("4")
		synctest.Wait()
		time.Sleep(time.Minute)
		wantStory(t, s, "once more, soon", "row 4")

		n.notify(t, key)
		time.Sleep(time.Second)
		n.notify(t, key)
		time.Sleep(900 * time.Millisecond)
		gate.release <- row("5")
		wantStory(t, s, "changed again meanwhile", "row 5")
		time.Sleep(2100 * time.Millisecond)
		wantStory(t, s, "which takes long as well", "stale")
		s.Unsubscribe(key)
		wantStory(t, s, "nothing is watched", "fresh")
		gate.release <- row("6")
		synctest.Wait()
		time.Sleep(time.Minute)
		wantStory(t, s, "nor told")
		if got := n.Stats().Stale; got != 0 {
			t.Errorf("%d clients are stale, want none", got)
		}
	})
}

// A change that came early in a long fetch is still to be fetched when that fetch ends.
// The client is not told that it is up to date between the two.
func TestALongFetchEndsNoLaterChangesDoubt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n, gate := newNode(t, &membus.Broker{}), newGate()
		n.register(t, gate.fetch, bridge.EntityOptions{Workers: 1, Timeout: time.Minute})
		s := newScreen(n, "me")
		s.subscribe(t, key, bridge.SubscribeOptions{})

		n.notify(t, key)
		time.Sleep(100 * time.Millisecond)
		n.notify(t, key) // the fetch under way may be too early for it
		time.Sleep(8900 * time.Millisecond)
		wantStory(t, s, "the fetch takes nine seconds", "stale")
		gate.release <- row("1")
		wantStory(t, s, "there was a change 8.9 seconds ago", "row 1")
		gate.release <- row("2")
		wantStory(t, s, "all is fetched", "row 2", "fresh")

		n.notify(t, key)
		time.Sleep(3 * time.Second)
		n.notify(t, key)
		time.Sleep(time.Second)
		wantStory(t, s, "the fetch takes four seconds", "stale")
		gate.release <- row("3")
		wantStory(t, s, "there was a change a second ago", "row 3", "fresh")
		time.Sleep(1100 * time.Millisecond)
		wantStory(t, s, "and more than two", "stale")
		gate.release <- row("4")
		wantStory(t, s, "all is fetched again", "row 4", "fresh")
		if got := n.Stats().Stale; got != 0 {
			t.Errorf("%d clients are stale, want none", got)
		}
	})
}

// A client that comes back says what it had. Nothing changed: it is told so,
// without the rows, unless it may not see them any more.
func TestAClientThatComesBackWithItsVersion(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n, db := newNode(t, &membus.Broker{}), &table{}
		n.register(t, func(ctx context.Context, k shared.EntityKey, secret string) ([][]byte, error) {
			if secret == mark+"nobody" {
				return nil, shared.ErrForbidden
			}
			return db.fetch(ctx, k, secret)
		}, bridge.EntityOptions{})
		first := newScreen(n, "me")
		first.subscribe(t, key, withSnapshot)
		synctest.Wait()
		version, err := bridge.ParseVersion(first.all()[0].Version.String())
		if err != nil {
			t.Fatal(err)
		}
		first.Close()

		back := func(secret string) *bridge.Update {
			t.Helper()
			s := newScreen(n, secret)
			defer s.Close()
			s.subscribe(t, key, bridge.SubscribeOptions{Snapshot: true, Version: version})
			synctest.Wait()
			all := s.all()
			if len(all) != 1 {
				t.Fatalf("%d updates, want 1", len(all))
			}
			return all[0]
		}
		if u := back("me"); u.Kind != bridge.KindCurrent || u.Version != version || len(u.Rows) != 0 || u.Key != key {
			t.Errorf("without a change it gets %+v", u)
		}
		if u := back("somebody else"); u.Kind != bridge.KindRows {
			t.Errorf("another reader gets %+v", u)
		}
		if u := back("nobody"); u.Kind != bridge.KindForbidden {
			t.Errorf("one that may not see it gets %+v", u)
		}
		db.write(key)
		if u := back("me"); u.Kind != bridge.KindRows || u.Version == version {
			t.Errorf("after a change it gets %+v", u)
		}

		// It need not leave to ask, and what is announced is pushed all the same.
		s := newScreen(n, "me")
		s.subscribe(t, key, withSnapshot)
		synctest.Wait()
		s.subscribe(t, key, bridge.SubscribeOptions{Snapshot: true, Version: s.all()[0].Version})
		synctest.Wait()
		n.notify(t, key)
		synctest.Wait()
		var kinds []bridge.Kind
		for _, u := range s.all() {
			kinds = append(kinds, u.Kind)
		}
		if want := []bridge.Kind{bridge.KindRows, bridge.KindCurrent, bridge.KindRows}; !slices.Equal(kinds, want) {
			t.Errorf("kinds %v, want %v", kinds, want)
		}
	})
}

func TestParseVersionRefusesWhatStringNeverWrites(t *testing.T) {
	good := bridge.Version{1, 2, 3}.String()
	for _, bad := range []string{"", "x", good[:21], good + "A", good[:21] + "_", "!" + good[1:], good + "\n"} {
		if v, err := bridge.ParseVersion(bad); err == nil {
			t.Errorf("%q is version %v", bad, v)
		}
	}
}

func TestOnlyDifferences(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n, db := newNode(t, &membus.Broker{}), &table{}
		n.register(t, db.fetch, bridge.EntityOptions{OnlyDifferences: true})
		s := newScreen(n, "me")
		s.subscribe(t, key, withSnapshot)
		synctest.Wait()
		n.notify(t, key)
		synctest.Wait()
		if got := len(s.all()); got != 1 {
			t.Errorf("%d updates after a change that changed nothing, want the snapshot", got)
		}
		db.write(key)
		n.notify(t, key)
		synctest.Wait()
		if got := len(s.all()); got != 2 {
			t.Errorf("%d updates after a change, want 2", got)
		}
	})
}

// A version that is read is the one that was written.
func FuzzParseVersion(f *testing.F) {
	for _, text := range []string{"tp0ICeR8Qa1mYIZhG2hZnw", "", "tp0ICeR8Qa1mYIZhG2hZnx", "tp0ICeR8Qa1mYIZhG2hZ\nnw", strings.Repeat("A", 22)} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if v, err := bridge.ParseVersion(text); err == nil && v.String() != text {
			t.Errorf("%q reads as %v", text, v)
		}
	})
}

// It says what it had, and at the same time gets something newer: what is sent
// then is not measured by what it said.
func TestAVersionThatCrossesAnUpdate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, &membus.Broker{})
		var value atomic.Value
		value.Store("1")
		n.register(t, func(context.Context, shared.EntityKey, string) ([][]byte, error) {
			return [][]byte{[]byte(value.Load().(string))}, nil
		}, bridge.EntityOptions{})
		s := newScreen(n, "me")
		s.subscribe(t, key, withSnapshot)
		synctest.Wait()
		first := s.all()[0].Version
		value.Store("2")
		n.notify(t, key)
		synctest.Wait() // "2" is on its way
		value.Store("1")
		s.subscribe(t, key, bridge.SubscribeOptions{Snapshot: true, Version: first})
		synctest.Wait()
		if got := s.rows(); !slices.Equal(got, []string{"1", "2", "1"}) {
			t.Errorf("saw %q, want it to end with what there is", got)
		}
	})
}

// A rate that is low for fetches that are slow is still kept up with.
func TestASlowFetchDoesNotLowerTheRateOfRepairs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var broker membus.Broker
		n, m := newNode(t, &broker), &meter{}
		n.register(t, m.fetch, bridge.EntityOptions{ResyncRate: 4}) // each takes a second
		s := newScreen(n, "me")
		for i := range 100 {
			s.subscribe(t, shared.EntityKey{Entity: items, ID: fmt.Sprint(i)}, bridge.SubscribeOptions{})
		}
		broker.SetDown(true)
		broker.SetDown(false)
		time.Sleep(30 * time.Second)
		if got := len(m.begun()); got != 100 {
			t.Errorf("%d of 100 repairs in 30 s at 4 a second", got)
		}
	})
}
