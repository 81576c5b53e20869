package bridge_test

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/shared"
)

// The table in states.go is what views do in the model, and in two tests of what the model
// does not have: nothing else, and all of it.
func TestTheTableOfStates(t *testing.T) {
	rows := tableOfStates(t)
	t.Run("a scope function that ends its goroutine", TestAScopeFunctionThatEndsItsGoroutineCostsARetry)
	t.Run("while scopes are asked", TestWhatHappensWhileScopesAreAsked)
	const rounds = 200 // one does, nearly always
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

// tableOfStates reads the first table of states.go: state, event and next state of each row.
func tableOfStates(t *testing.T) (rows []string) {
	t.Helper()
	b, err := os.ReadFile("states.go")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(b), "what else\n")
	if !found {
		t.Fatal("states.go has no table")
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
