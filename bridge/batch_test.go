package bridge_test

import (
	"context"
	"errors"
	"fmt"
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

// batches is a batch handler that remembers the size of each call.
type batches struct {
	mu     sync.Mutex
	sizes  []int
	answer func(shared.FetchRequest) shared.FetchResult
}

func (b *batches) fetch(_ context.Context, requests []shared.FetchRequest) []shared.FetchResult {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sizes = append(b.sizes, len(requests))
	results := make([]shared.FetchResult, len(requests))
	for i, r := range requests {
		results[i] = b.answer(r)
	}
	return results
}

func (b *batches) calls() []int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.sizes)
}

func secretAndID(r shared.FetchRequest) shared.FetchResult {
	return shared.FetchResult{Rows: [][]byte{[]byte(r.Secret.Reveal() + " sees " + r.Key.ID)}}
}

// Ten thousand viewers of one row, each with a secret of its own: one call.
func TestManyViewersOfOneRowAreOneBatch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		handler := &batches{answer: secretAndID}
		n := newNode(t, &membus.Broker{})
		if err := n.RegisterBatch(items, handler.fetch, bridge.EntityOptions{}); err != nil {
			t.Fatal(err)
		}
		screens := make([]*screen, 10_000)
		for i := range screens {
			screens[i] = newScreen(n, fmt.Sprint("viewer ", i))
			screens[i].subscribe(t, key, bridge.SubscribeOptions{})
		}
		n.notify(t, key)
		synctest.Wait()
		if got := handler.calls(); !slices.Equal(got, []int{10_000}) {
			t.Errorf("batches of %v, want one of 10,000", got)
		}
		for i, s := range screens {
			if got, want := s.rows(), fmt.Sprintf("%sviewer %d sees 100", mark, i); !slices.Equal(got, []string{want}) {
				t.Fatalf("viewer %d saw %q", i, got)
			}
		}
	})
}

func TestABatchIsNoLargerThanItsOption(t *testing.T) {
	bubble(t, func(t *testing.T) {
		handler := &batches{answer: secretAndID}
		n := newNode(t, &membus.Broker{})
		if err := n.RegisterBatch(items, handler.fetch, bridge.EntityOptions{BatchSize: 100, Workers: 1}); err != nil {
			t.Fatal(err)
		}
		s := newScreen(n, "me")
		var keys []shared.EntityKey
		for i := range 250 {
			k := shared.EntityKey{Entity: items, ID: fmt.Sprint(i)}
			keys = append(keys, k)
			s.subscribe(t, k, bridge.SubscribeOptions{})
		}
		n.notify(t, keys...)
		synctest.Wait()
		calls := handler.calls()
		if slices.Max(calls) > 100 || len(s.all()) != 250 {
			t.Errorf("batches of %v and %d updates, want 100 at most and 250", calls, len(s.all()))
		}
	})
}

// Each request of a batch has an outcome of its own.
func TestResultsOfABatchAreSettledOneByOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		broken := true
		handler := &batches{}
		handler.answer = func(r shared.FetchRequest) shared.FetchResult {
			switch {
			case r.Key.ID == "gone":
				return shared.FetchResult{Err: shared.ErrNotFound}
			case r.Key.ID == "secret":
				return shared.FetchResult{Err: shared.ErrForbidden}
			case r.Key.ID == "broken" && broken:
				return shared.FetchResult{Err: errors.New("broken")}
			}
			return secretAndID(r)
		}
		n := newNode(t, &membus.Broker{})
		if err := n.RegisterBatch(items, handler.fetch, bridge.EntityOptions{}); err != nil {
			t.Fatal(err)
		}
		s := newScreen(n, "me")
		var keys []shared.EntityKey
		for _, id := range []string{"fine", "gone", "secret", "broken"} {
			k := shared.EntityKey{Entity: items, ID: id}
			keys = append(keys, k)
			s.subscribe(t, k, bridge.SubscribeOptions{})
		}
		n.notify(t, keys...)
		synctest.Wait()
		kinds := map[string]bridge.Kind{}
		for _, u := range s.all() {
			kinds[u.Key.ID] = u.Kind
		}
		if len(kinds) != 3 || kinds["fine"] != bridge.KindRows || kinds["gone"] != bridge.KindDeleted || kinds["secret"] != bridge.KindForbidden {
			t.Errorf("saw %v", kinds)
		}
		handler.mu.Lock()
		broken = false
		handler.mu.Unlock()
		time.Sleep(time.Minute)
		if rows := s.rows(); !slices.Contains(rows, mark+"me sees broken") {
			t.Errorf("the broken one was not tried again: %q", rows)
		}
	})
}

func TestABatchHandlerThatMisbehavesIsRetried(t *testing.T) {
	for name, misbehave := range map[string]func([]shared.FetchRequest) []shared.FetchResult{
		"panics":           func([]shared.FetchRequest) []shared.FetchResult { panic("no") },
		"returns too few":  func([]shared.FetchRequest) []shared.FetchResult { return nil },
		"returns too many": func(r []shared.FetchRequest) []shared.FetchResult { return make([]shared.FetchResult, len(r)+1) },
		"takes too long": func(r []shared.FetchRequest) []shared.FetchResult {
			time.Sleep(time.Hour)
			return make([]shared.FetchResult, len(r))
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				calls := 0
				n := newNode(t, &membus.Broker{})
				err := n.RegisterBatch(items, func(_ context.Context, r []shared.FetchRequest) []shared.FetchResult {
					if calls++; calls == 1 {
						return misbehave(r)
					}
					return []shared.FetchResult{secretAndID(r[0])}
				}, bridge.EntityOptions{})
				if err != nil {
					t.Fatal(err)
				}
				s := newScreen(n, "me")
				s.subscribe(t, key, withSnapshot)
				time.Sleep(2 * time.Hour)
				if got := s.rows(); !slices.Equal(got, []string{mark + "me sees 100"}) {
					t.Errorf("saw %q", got)
				}
			})
		})
	}
}

func TestTooLargeAResultIsAnError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var size atomic.Int64
		size.Store(1001)
		n := newNode(t, &membus.Broker{})
		n.register(t, func(context.Context, shared.EntityKey, string) ([][]byte, error) {
			half := []byte(strings.Repeat("x", int(size.Load()/2)))
			return [][]byte{half, half, []byte("x")}, nil
		}, bridge.EntityOptions{MaxBytes: 1000})
		s := newScreen(n, "")
		s.subscribe(t, key, withSnapshot)
		synctest.Wait()
		if len(s.all()) != 0 || !strings.Contains(n.log.String(), "1000 bytes") {
			t.Errorf("%d updates; log: %s", len(s.all()), n.log)
		}
		size.Store(998)
		time.Sleep(time.Minute)
		if len(s.all()) != 1 {
			t.Errorf("%d updates once it fits, want 1", len(s.all()))
		}
	})
}

// Looking at everything again holds up neither changes nor snapshots, and they
// do not hold it up for ever.
func TestARepairHoldsUpNoChange(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var broker membus.Broker
		var mu sync.Mutex
		var order []string // in which the fetches began
		n := newNode(t, &broker)
		n.register(t, func(_ context.Context, k shared.EntityKey, _ string) ([][]byte, error) {
			mu.Lock()
			order = append(order, k.ID)
			mu.Unlock()
			time.Sleep(time.Second)
			return [][]byte{[]byte(k.ID)}, nil
		}, bridge.EntityOptions{Workers: 1})
		s := newScreen(n, "")
		for i := range 100 {
			s.subscribe(t, shared.EntityKey{Entity: items, ID: fmt.Sprint("old ", i)}, bridge.SubscribeOptions{})
		}
		broker.SetDown(true)
		broker.SetDown(false)
		synctest.Wait() // the first is being fetched, 99 wait
		mu.Lock()
		changed := "old 50"
		if order[0] == changed { // which is the first is random: this change would owe it a second fetch
			changed = "old 51"
		}
		mu.Unlock()
		s.subscribe(t, shared.EntityKey{Entity: items, ID: "joined"}, withSnapshot)
		n.notify(t, shared.EntityKey{Entity: items, ID: changed})
		synctest.Wait()
		if got := n.Stats().FetchesQueued; got != 100 {
			t.Errorf("%d views wait, want 99 and the new one", got)
		}
		time.Sleep(3500 * time.Millisecond)
		mu.Lock()
		if got := order[1:3]; !slices.Contains(got, changed) || !slices.Contains(got, "joined") {
			t.Errorf("after the one under way came %q, want the change and the snapshot", got)
		}
		mu.Unlock()
		time.Sleep(2 * time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if got := len(order); got != 101 {
			t.Errorf("%d fetches in all, want 101: what was moved ahead must not come twice", got)
		}
	})
}
