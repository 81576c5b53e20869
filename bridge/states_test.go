package bridge_test

import (
	"context"
	"errors"
	"os"
	"regexp"
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

// The table in doc.go is what views do in the model, and in tests of what the model does
// not have or does seldom: nothing else, and all of it.
func TestTheTableOfStates(t *testing.T) {
	rows := tableOfStates(t)
	t.Run("a scope function that ends its goroutine", TestAScopeFunctionThatEndsItsGoroutineCostsARetry)
	t.Run("while scopes are asked", TestWhatHappensWhileScopesAreAsked)
	t.Run("while a view backs off", TestWhatHappensWhileAViewBacksOff)
	t.Run("while others are fetched", TestWhatHappensWhileOthersAreFetched)
	t.Run("while the scope changes", TestWhatHappensWhileTheScopeChanges)
	t.Run("a member that has something newer", TestAMemberThatHasSomethingNewerIsOwedAnotherFetch)
	const rounds = 20 // one does: what is left to the model is done in each hundredth schedule
	var missing []string
	for range rounds {
		runModel(t)
		seen := bridge.Transitions()
		missing = nil
		for _, row := range rows {
			if seen[row] == 0 {
				missing = append(missing, row)
			}
			delete(seen, row)
		}
		for unknown := range seen {
			t.Errorf("a view does what is not in the table: %s", unknown)
		}
		if len(missing) == 0 || t.Failed() {
			break
		}
	}
	for _, row := range missing {
		t.Errorf("no view does what is in the table: %s", row)
	}
}

// The result is there, and the application is asked who may have it. All that happens
// meanwhile is owed to the view, and another fetch brings it.
func TestWhatHappensWhileScopesAreAsked(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var db table
		var armed atomic.Bool
		var once sync.Once
		n := newNode(t, &membus.Broker{})
		guest := newScreen(n, "")
		n.register(t, func(ctx context.Context, k shared.EntityKey, secret string) ([][]byte, error) {
			once.Do(func() { armed.Store(true) })
			return db.fetch(ctx, k, secret)
		}, bridge.EntityOptions{Refresh: time.Second, Scope: func(string) string {
			if armed.CompareAndSwap(true, false) {
				db.write(key)
				n.notify(t, key)
				guest.subscribe(t, key, withSnapshot)
				guest.Unsubscribe(key)
				n.broker.SetDown(true)
				n.broker.SetDown(false)
				time.Sleep(5 * time.Second) // longer than Refresh
			}
			return "all"
		}})
		s := newScreen(n, "")
		s.subscribe(t, key, withSnapshot)
		time.Sleep(time.Minute)
		if rows := s.rows(); len(rows) != 2 || !strings.Contains(rows[1], `"rev":1`) {
			t.Errorf("saw %q, want the row of before and that of after the change", rows)
		}
	})
}

// A fetch has failed. News of the key has it tried early, but not more often than ten times
// a second; all else waits for its time.
func TestWhatHappensWhileAViewBacksOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var db table
		var sick atomic.Bool
		sick.Store(true)
		n := newNode(t, &membus.Broker{})
		var fetches atomic.Int64
		n.register(t, func(ctx context.Context, k shared.EntityKey, secret string) ([][]byte, error) {
			fetches.Add(1)
			if sick.Load() {
				return nil, errors.New("out of order")
			}
			return db.fetch(ctx, k, secret)
		}, bridge.EntityOptions{Refresh: time.Second})
		s, guest := newScreen(n, ""), newScreen(n, "")
		s.subscribe(t, key, withSnapshot)
		synctest.Wait()
		for range 3 { // the first of each is tried, the others are not
			time.Sleep(150 * time.Millisecond)
			for range 5 {
				n.notify(t, key)
				synctest.Wait()
			}
			guest.subscribe(t, key, withSnapshot)
			guest.Unsubscribe(key)
			synctest.Wait()
		}
		time.Sleep(150 * time.Millisecond)
		guest.subscribe(t, key, withSnapshot)
		synctest.Wait()
		if n := fetches.Load(); n < 5 || n > 20 {
			t.Errorf("%d fetches, want one for each round, and those whose time had come", n)
		}
		time.Sleep(time.Minute) // the attempts are further and further apart
		guest.Unsubscribe(key)
		s.Unsubscribe(key)
		sick.Store(false)
		time.Sleep(time.Minute)
		s.subscribe(t, key, withSnapshot)
		synctest.Wait()
		if rows := s.rows(); len(rows) != 1 {
			t.Errorf("saw %q, want the row once", rows)
		}
	})
}

// There is one worker, and it is busy with another key for longer than it is to the next
// refresh; and a member comes while a fetch is under way.
func TestWhatHappensWhileOthersAreFetched(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var db table
		n := newNode(t, &membus.Broker{})
		n.register(t, func(ctx context.Context, k shared.EntityKey, secret string) ([][]byte, error) {
			time.Sleep(3 * time.Second)
			return db.fetch(ctx, k, secret)
		}, bridge.EntityOptions{Refresh: time.Second, Workers: 1})
		s, guest := newScreen(n, ""), newScreen(n, "")
		other := shared.EntityKey{Entity: key.Entity, ID: "another"}
		s.subscribe(t, other, withSnapshot)
		s.subscribe(t, key, withSnapshot)
		time.Sleep(4500 * time.Millisecond) // now it is the key's turn
		guest.subscribe(t, key, withSnapshot)
		time.Sleep(30 * time.Second)
		if len(s.rows()) != 2 || len(guest.rows()) != 1 {
			t.Errorf("saw %q and %q, want a row of each key", s.rows(), guest.rows())
		}
	})
}

// A member comes to a view whose fetch began before the one that the member has seen: that
// fetch would take the member backwards, and another one is owed.
func TestAMemberThatHasSomethingNewerIsOwedAnotherFetch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var db table
		n := newNode(t, &membus.Broker{})
		var fetches atomic.Int64
		n.register(t, func(ctx context.Context, k shared.EntityKey, secret string) ([][]byte, error) {
			fetches.Add(1)
			if strings.HasSuffix(secret, "slow") {
				time.Sleep(3 * time.Second)
			}
			return db.fetch(ctx, k, secret)
		}, bridge.EntityOptions{})
		slow, quick := newScreen(n, "slow"), newScreen(n, "quick")
		slow.subscribe(t, key, withSnapshot)
		synctest.Wait()
		quick.subscribe(t, key, withSnapshot)
		synctest.Wait()
		quick.become("slow")
		time.Sleep(time.Minute)
		if rows := quick.rows(); len(rows) != 2 || fetches.Load() != 3 {
			t.Errorf("saw %q of %d fetches, want a row of each secret of 3", rows, fetches.Load())
		}
	})
}

// The secret that a fetch was made with has another scope by the time that the result is
// there. The result goes to nobody: another fetch is made for those who have stayed, and
// none where nobody has.
func TestWhatHappensWhileTheScopeChanges(t *testing.T) {
	for name, stays := range map[string]bool{"for all": false, "for one": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var db table
				var moved atomic.Bool
				n := newNode(t, &membus.Broker{})
				n.register(t, func(ctx context.Context, k shared.EntityKey, secret string) ([][]byte, error) {
					time.Sleep(time.Second)
					if strings.HasSuffix(secret, "first") {
						moved.Store(true)
					}
					return db.fetch(ctx, k, secret)
				}, bridge.EntityOptions{Scope: func(secret string) string {
					if strings.HasSuffix(secret, "first") && moved.Load() {
						return "another"
					}
					return "all"
				}})
				first, second := newScreen(n, "first"), newScreen(n, "second")
				first.subscribe(t, key, withSnapshot)
				if stays {
					second.subscribe(t, key, withSnapshot)
				}
				time.Sleep(time.Minute)
				want := []string{string(db.row(key, mark+"first"))}
				if !slices.Equal(first.rows(), want) {
					t.Errorf("the first saw %q, want %q", first.rows(), want)
				}
				if want[0] = string(db.row(key, mark+"second")); stays && !slices.Equal(second.rows(), want) {
					t.Errorf("the second saw %q, want %q", second.rows(), want)
				}
			})
		})
	}
}

// tableOfStates reads the first table of doc.go: state, event and next state of each row.
func tableOfStates(t *testing.T) (rows []string) {
	t.Helper()
	b, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(b), "what else\n")
	if !found {
		t.Fatal("doc.go has no table")
	}
	table, _, _ = strings.Cut(table, "//\n")
	for _, row := range regexp.MustCompile(`(?m)^//\t(\w+) +(\w+) +(\w+)`).FindAllStringSubmatch(table, -1) {
		rows = append(rows, strings.Join(row[1:], " "))
	}
	if len(rows) < 40 || len(slices.Compact(slices.Sorted(slices.Values(rows)))) != len(rows) {
		t.Fatalf("the table has %d rows, or one twice: %q", len(rows), rows)
	}
	return rows
}
