package bridge_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/shared"
)

// meter is a slow fetch handler that knows how many of its kind are under way.
type meter struct {
	mu       sync.Mutex
	now, max int
	order    []string // the ids, as their fetches began
}

func (m *meter) fetch(ctx context.Context, k shared.EntityKey, _ string) ([][]byte, error) {
	m.mu.Lock()
	m.now++
	m.max = max(m.max, m.now)
	m.order = append(m.order, k.ID)
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.now--
	}()
	select {
	case <-time.After(time.Second):
		return [][]byte{[]byte(k.ID)}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *meter) begun() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.order)
}

func (m *meter) most() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.max
}

func hang(ctx context.Context, _ shared.EntityKey, _ string) ([][]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// Snapshots of three types at once: together they never run more fetches than
// the node allows, none waits for the others to be through, and all are served.
func TestTheNodesFetchesAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n, all, each := newNodeWith(t, &membus.Broker{}, bridge.Config{MaxFetches: 6}), &meter{}, map[shared.EntityType]*meter{}
		s := newScreen(n, "me")
		for _, name := range []shared.EntityType{"a", "b", "c"} {
			one := &meter{}
			each[name] = one
			err := n.Register(name, func(ctx context.Context, k shared.EntityKey, secret string) ([][]byte, error) {
				go one.fetch(ctx, k, secret) //nolint:errcheck // it is only to count
				return all.fetch(ctx, k, secret)
			}, bridge.EntityOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for i := range 60 {
				s.subscribe(t, shared.EntityKey{Entity: name, ID: fmt.Sprint(i)}, withSnapshot)
			}
		}
		time.Sleep(10500 * time.Millisecond)
		for name, m := range each {
			if got := len(m.begun()); got < 11 { // a sixth of the node for sure
				t.Errorf("%d fetches of %q in 10 s, want a share of it", got, name)
			}
		}
		time.Sleep(time.Minute)
		if got := all.most(); got != 6 {
			t.Errorf("%d fetches at once, want 6", got)
		}
		if got := len(s.all()); got != 180 {
			t.Errorf("%d of 180 snapshots came", got)
		}
		if st := n.Stats(); st.FetchesQueued != 0 || st.FetchesRunning != 0 {
			t.Errorf("the figures say %+v, want nothing under way", st)
		}
	})
}

// Two types that hang, with more to do than the node has places for, do not keep
// a third from its own.
func TestHangingTypesLeaveRoom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n, healthy := newNodeWith(t, &membus.Broker{}, bridge.Config{MaxFetches: 16}), &meter{}
		s := newScreen(n, "me")
		for name, fetch := range map[shared.EntityType]shared.Fetcher{"sick": hang, "sicker": hang, items: healthy.fetch} {
			if err := n.Register(name, fetch, bridge.EntityOptions{Timeout: time.Hour}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 100 {
			s.subscribe(t, shared.EntityKey{Entity: "sick", ID: fmt.Sprint(i)}, withSnapshot)
			s.subscribe(t, shared.EntityKey{Entity: "sicker", ID: fmt.Sprint(i)}, withSnapshot)
		}
		synctest.Wait()
		s.subscribe(t, key, withSnapshot)
		synctest.Wait()
		if len(healthy.begun()) != 1 {
			t.Errorf("the healthy type waits: %+v", n.Stats())
		}
		if st := n.Stats(); st.FetchesRunning < 14 || st.FetchesRunning > 16 {
			t.Errorf("%d fetches at once, want the node's 16, or few less", st.FetchesRunning)
		}
	})
}

// Types that share a limit run no more fetches than it allows, whatever the node
// does; one that hangs leaves the other its share; the rest do not notice.
func TestTypesShareALimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n, limit := newNodeWith(t, &membus.Broker{}, bridge.Config{MaxFetches: 1}), bridge.NewLimit(3)
		s, pooled, other := newScreen(n, "me"), &meter{}, &meter{}
		for name, fetch := range map[shared.EntityType]shared.Fetcher{"sick": hang, "pooled": pooled.fetch} {
			if err := n.Register(name, fetch, bridge.EntityOptions{Timeout: time.Hour, Limit: limit}); err != nil {
				t.Fatal(err)
			}
		}
		n.register(t, other.fetch, bridge.EntityOptions{})
		for i := range 20 {
			s.subscribe(t, shared.EntityKey{Entity: "sick", ID: fmt.Sprint(i)}, withSnapshot)
		}
		synctest.Wait()
		for i := range 20 {
			s.subscribe(t, shared.EntityKey{Entity: "pooled", ID: fmt.Sprint(i)}, withSnapshot)
		}
		s.subscribe(t, key, withSnapshot)
		synctest.Wait()
		if st := n.Stats(); st.FetchesRunning != 4 || len(other.begun()) != 1 {
			t.Errorf("%d fetches at once, %d of the other type: want the limit's 3, and 1", st.FetchesRunning, len(other.begun()))
		}
		time.Sleep(time.Minute)
		if got := len(pooled.begun()); got != 20 {
			t.Errorf("%d of 20 fetches beside a type that hangs", got)
		}
	})
}

func TestMoreWorkersThanTheLimitAllows(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, &membus.Broker{})
		err := n.Register(items, hang, bridge.EntityOptions{Workers: 4, Limit: bridge.NewLimit(3)})
		if err == nil || !strings.Contains(err.Error(), "Workers is 4, want no more than the 3") {
			t.Errorf("Register returned %v", err)
		}
	})
}

// So it is where the places are so few that half of them are less than one each.
func TestEachTypeHasAPlaceWhereThereIsOneForEach(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n, healthy := newNodeWith(t, &membus.Broker{}, bridge.Config{MaxFetches: 3}), &meter{}
		s := newScreen(n, "me")
		for name, fetch := range map[shared.EntityType]shared.Fetcher{"sick": hang, "sicker": hang, items: healthy.fetch} {
			if err := n.Register(name, fetch, bridge.EntityOptions{Timeout: time.Hour}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 5 {
			s.subscribe(t, shared.EntityKey{Entity: "sick", ID: fmt.Sprint(i)}, withSnapshot)
			s.subscribe(t, shared.EntityKey{Entity: "sicker", ID: fmt.Sprint(i)}, withSnapshot)
		}
		synctest.Wait()
		s.subscribe(t, key, withSnapshot)
		synctest.Wait()
		if len(healthy.begun()) != 1 {
			t.Errorf("the healthy type waits: %+v", n.Stats())
		}
	})
}

// A handler that ends its goroutine gives its place back.
func TestAPlaceIsNotLostWithItsWorker(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n, healthy := newNodeWith(t, &membus.Broker{}, bridge.Config{MaxFetches: 1}), &meter{}
		s := newScreen(n, "me")
		exit := func(context.Context, shared.EntityKey, string) ([][]byte, error) {
			runtime.Goexit()
			return nil, nil
		}
		for name, fetch := range map[shared.EntityType]shared.Fetcher{"exits": exit, items: healthy.fetch} {
			if err := n.Register(name, fetch, bridge.EntityOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 10 {
			s.subscribe(t, shared.EntityKey{Entity: "exits", ID: fmt.Sprint(i)}, withSnapshot)
			s.subscribe(t, shared.EntityKey{Entity: items, ID: fmt.Sprint(i)}, withSnapshot)
		}
		time.Sleep(time.Minute)
		if got := len(healthy.begun()); got != 10 {
			t.Errorf("%d of 10 fetches after others ended their goroutines", got)
		}
	})
}

func position(t *testing.T, order []string, id string) int {
	t.Helper()
	i := slices.Index(order, id)
	if i < 0 {
		t.Fatalf("%q was not fetched: %q", id, order)
	}
	return i
}

// One client asks for a hundred keys, another for one; and later all of them
// change. The other does not wait for the hundred.
func TestClientsTakeTurns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n, m := newNode(t, &membus.Broker{}), &meter{}
		n.register(t, m.fetch, bridge.EntityOptions{Workers: 1})
		greedy, modest := newScreen(n, "greedy"), newScreen(n, "modest")
		var keys []shared.EntityKey
		for i := range 100 {
			keys = append(keys, shared.EntityKey{Entity: items, ID: fmt.Sprint(i)})
			greedy.subscribe(t, keys[i], withSnapshot)
		}
		modest.subscribe(t, key, withSnapshot)
		time.Sleep(200 * time.Second)
		if got := position(t, m.begun(), key.ID); got > 2 {
			t.Errorf("the modest client's snapshot came after %d others", got)
		}
		n.notify(t, append(keys, key)...)
		time.Sleep(200 * time.Second)
		if got := position(t, m.begun()[101:], key.ID); got > 2 {
			t.Errorf("the modest client's change came after %d others", got)
		}
		if got := len(m.begun()); got != 202 {
			t.Errorf("%d fetches, want 202: nobody is forgotten", got)
		}
	})
}

// All see the same, and the greedy client was first to ask for the key that the
// modest one wants: it does not wait in the greedy one's line.
func TestASharedViewWaitsForTheFirstOfItsClients(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n, m := newNode(t, &membus.Broker{}), &meter{}
		n.register(t, m.fetch, bridge.EntityOptions{Workers: 1, Scope: func(string) string { return "" }})
		greedy, modest := newScreen(n, "greedy"), newScreen(n, "modest")
		for i := range 101 {
			greedy.subscribe(t, shared.EntityKey{Entity: items, ID: fmt.Sprint(i)}, withSnapshot)
		}
		modest.subscribe(t, key, withSnapshot) // the last of them
		time.Sleep(200 * time.Second)
		if got := position(t, m.begun(), key.ID); got > 2 {
			t.Errorf("the modest client's snapshot came after %d others", got)
		}
		if got := len(m.begun()); got != 101 {
			t.Errorf("%d fetches, want one a key", got)
		}
	})
}

// While everything is looked at again three quarters of the workers are free for
// what is new.
func TestRepairsHaveAQuarterOfTheWorkers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var broker membus.Broker
		n, m := newNode(t, &broker), &meter{}
		n.register(t, m.fetch, bridge.EntityOptions{Workers: 8})
		s := newScreen(n, "me")
		for i := range 101 {
			s.subscribe(t, shared.EntityKey{Entity: items, ID: fmt.Sprint(i)}, bridge.SubscribeOptions{})
		}
		broker.SetDown(true)
		broker.SetDown(false)
		time.Sleep(500 * time.Millisecond)
		if st := n.Stats(); st.FetchesRunning != 2 || st.FetchesQueued != 99 {
			t.Errorf("%d fetches run and %d wait, want 2 and 99", st.FetchesRunning, st.FetchesQueued)
		}
		for i := range 101 { // one that is not being looked at
			if id := fmt.Sprint(i); !slices.Contains(m.begun(), id) {
				n.notify(t, shared.EntityKey{Entity: items, ID: id})
				break
			}
		}
		synctest.Wait()
		if got := n.Stats().FetchesRunning; got != 3 {
			t.Errorf("%d fetches run with a change, want 3", got)
		}
		time.Sleep(2 * time.Minute)
		if got := len(m.begun()); got != 101 {
			t.Errorf("%d fetches, want one a key", got)
		}
	})
}

func TestRepairsKeepToTheirRate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var broker membus.Broker
		n, db := newNode(t, &broker), &table{}
		n.register(t, db.fetch, bridge.EntityOptions{ResyncRate: 20})
		s := newScreen(n, "me")
		for i := range 100 {
			s.subscribe(t, shared.EntityKey{Entity: items, ID: fmt.Sprint(i)}, bridge.SubscribeOptions{})
		}
		broker.SetDown(true)
		broker.SetDown(false)
		for second := 1; second <= 4; second++ {
			time.Sleep(time.Second)
			if got := db.count(); got < 20*second-4 || got > 20*second+4 {
				t.Errorf("%d fetches in %d s, want about 20 a second", got, second)
			}
		}
		before, changed := len(s.all()), shared.EntityKey{Entity: items, ID: "99"}
		n.notify(t, changed)
		synctest.Wait()
		if !slices.ContainsFunc(s.all()[before:], func(u *bridge.Update) bool { return u.Key == changed }) {
			t.Error("a change waits for the repairs' rate")
		}
		time.Sleep(time.Minute)
		if got := db.count(); got < 100 || got > 101 {
			t.Errorf("%d fetches, want one a key and the change's", got)
		}
	})
}

// A write that nobody announced is seen within the period, and nothing else is
// sent. The fetches are spread.
func TestRefreshFindsWhatNobodyAnnounced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n, db := newNode(t, &membus.Broker{}), &table{}
		n.register(t, db.fetch, bridge.EntityOptions{Refresh: time.Minute})
		s := newScreen(n, "me")
		for i := range 640 {
			s.subscribe(t, shared.EntityKey{Entity: items, ID: fmt.Sprint(i)}, withSnapshot)
		}
		synctest.Wait()
		before := len(s.all())
		db.write(key)
		for second := 1; second <= 60; second++ {
			had := db.count()
			time.Sleep(time.Second)
			if got := db.count() - had; got > 640/8 {
				t.Errorf("%d of 640 fetches in one second of sixty", got)
			}
		}
		time.Sleep(time.Millisecond) // the last part's turn comes in the period's last moment
		if all := s.all(); len(all) != before+1 || all[before].Key != key {
			t.Errorf("%d updates came, want the one of %v", len(all)-before, key)
		}
		if got := n.Stats().Refreshed; got != 640 {
			t.Errorf("%d views were looked at again in a period, want 640", got)
		}
	})
}

// Nor is the place of a repair, of which there are few.
func TestARepairsPlaceIsNotLostWithItsWorker(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var broker membus.Broker
		var fetches atomic.Int64
		n := newNode(t, &broker)
		n.register(t, func(context.Context, shared.EntityKey, string) ([][]byte, error) {
			if fetches.Add(1) == 1 {
				runtime.Goexit()
			}
			return [][]byte{[]byte("row")}, nil
		}, bridge.EntityOptions{Workers: 1})
		newScreen(n, "me").subscribe(t, key, bridge.SubscribeOptions{})
		for range 2 {
			broker.SetDown(true)
			broker.SetDown(false)
			time.Sleep(time.Minute)
		}
		if fetches.Load() != 3 {
			t.Errorf("%d fetches, want the failed one, its retry and the second repair", fetches.Load())
		}
	})
}

// A topic fetches nothing, so no place is kept for it.
func TestTopicsTakeNoPlaces(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n, m := newNodeWith(t, &membus.Broker{}, bridge.Config{MaxFetches: 2}), &meter{}
		if err := n.RegisterTopic("topic", bridge.Topic{Message: func(string) {}, Gap: func() {}}); err != nil {
			t.Fatal(err)
		}
		n.register(t, m.fetch, bridge.EntityOptions{})
		s := newScreen(n, "me")
		for i := range 4 {
			s.subscribe(t, shared.EntityKey{Entity: items, ID: fmt.Sprint(i)}, withSnapshot)
		}
		time.Sleep(time.Minute)
		if got := m.most(); got != 2 {
			t.Errorf("%d fetches at once, want 2", got)
		}
	})
}
