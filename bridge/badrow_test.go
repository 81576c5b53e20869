package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/shared"
)

// together is a node whose only worker has one batch for all that is watched: it waits,
// fetching something else, until all are announced.
func together(t *testing.T, fetch shared.BatchFetcher, precise bool) (announce func(keys []shared.EntityKey) *screen) {
	t.Helper()
	waiting := make(chan struct{})
	n := newNode(t, &membus.Broker{})
	err := n.RegisterBatch(items, func(ctx context.Context, requests []shared.FetchRequest) []shared.FetchResult {
		if requests[0].Key.ID == "wait" {
			<-waiting
			return make([]shared.FetchResult, len(requests))
		}
		return fetch(ctx, requests)
	}, bridge.EntityOptions{Workers: 1, Precise: precise, Retry: bridge.Retry{Min: time.Hour, Max: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	return func(keys []shared.EntityKey) *screen {
		s := newScreen(n, "me")
		s.subscribe(t, shared.EntityKey{Entity: items, ID: "wait"}, withSnapshot)
		synctest.Wait()
		for _, k := range keys {
			s.subscribe(t, k, bridge.SubscribeOptions{})
		}
		n.notify(t, keys...)
		synctest.Wait()
		close(waiting)
		synctest.Wait() // no time passes
		return s
	}
}

func keysOf(n int) (keys []shared.EntityKey) {
	for i := range n {
		keys = append(keys, shared.EntityKey{Entity: items, ID: fmt.Sprint(i)})
	}
	return keys
}

// A handler that fails as a whole because of one key does not keep the rows of the others
// waiting.
func TestARowThatABatchHandlerFailsForIsNoMatterOfTheOthers(t *testing.T) {
	for name, fail := range map[string]func(n int) []shared.FetchResult{
		"an error": func(n int) []shared.FetchResult {
			return slices.Repeat([]shared.FetchResult{{Err: errors.New("scanning: what is this?")}}, n)
		},
		"a panic": func(int) []shared.FetchResult { panic("what is this?") },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				handler := &batches{answer: secretAndID}
				announce := together(t, func(ctx context.Context, requests []shared.FetchRequest) []shared.FetchResult {
					results := handler.fetch(ctx, requests)
					if slices.ContainsFunc(requests, func(r shared.FetchRequest) bool { return r.Key.ID == "7" }) {
						return fail(len(requests))
					}
					return results
				}, false)
				if got := len(announce(keysOf(300)).all()); got != 299 {
					t.Errorf("%d updates at once, want those of the 299 that are good", got)
				}
				if calls := handler.calls(); len(calls) > 19 || calls[0] != 300 {
					t.Errorf("batches of %v, want one of 300 and a few parts of it", calls)
				}
			})
		})
	}
}

// A database that is down is not asked for each key, and a handler that knows what it
// fails for is asked once, as is one that is wrong.
func TestAnOutageIsNotLookedForKeyByKey(t *testing.T) {
	for _, c := range []struct {
		what           string
		precise, wrong bool
		most           int
	}{{"an outage", false, false, 19}, {"an outage of a precise handler", true, false, 1}, {"a result too many", false, true, 1}} {
		bubble(t, func(t *testing.T) {
			handler := &batches{answer: func(shared.FetchRequest) shared.FetchResult {
				return shared.FetchResult{Err: errors.New("no database")}
			}}
			announce := together(t, func(ctx context.Context, requests []shared.FetchRequest) []shared.FetchResult {
				results := handler.fetch(ctx, requests)
				if c.wrong {
					results = append(results, shared.FetchResult{})
				}
				return results
			}, c.precise)
			announce(keysOf(300))
			if calls := handler.calls(); len(calls) > c.most || calls[0] != 300 {
				t.Errorf("%s: batches of %v, want one of 300, and %d at most", c.what, calls, c.most)
			}
		})
	}
}
