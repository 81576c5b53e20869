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

// ownQueue is a message queue such as an application may have: plain functions.
type ownQueue struct {
	mu       sync.Mutex
	handlers map[string][]shared.ByteHandler
}

func (q *ownQueue) publisher(entity shared.EntityType) shared.ByteHandler {
	return func(b []byte) {
		q.mu.Lock()
		handlers := slices.Clone(q.handlers[entity.GetQueueName()])
		q.mu.Unlock()
		for _, h := range handlers {
			h(b)
		}
	}
}

func (q *ownQueue) subscriber(entity shared.EntityType, h shared.ByteHandler) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.handlers == nil {
		q.handlers = make(map[string][]shared.ByteHandler)
	}
	q.handlers[entity.GetQueueName()] = append(q.handlers[entity.GetQueueName()], h)
}

func TestBuildBridgeOverAQueueOfFunctions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var q ownQueue
		b := bridge.BuildBridge(q.publisher, q.subscriber, func(k shared.EntityKey, secret string, push shared.ByteHandler) {
			buffer := []byte("first for " + secret)
			push(buffer)
			copy(buffer, "XXXXX") // a handler may reuse its buffer
			push([]byte("second of " + k.Hash()))
		})
		defer b.Close(t.Context())
		for range 2 { // registering again changes nothing
			if err := b.RegisterEntityForSync(items); err != nil {
				t.Fatal(err)
			}
		}
		var got []string
		sub, unSub, dc := b.ClientBuilder(func(row []byte) { got = append(got, string(row)) }, func() string { return mark + "me" })
		sub(key)
		if err := b.NotifyAllOfChange(key); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if want := []string{"first for " + mark + "me", "second of items.100"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		unSub(key)
		b.NotifyAllOfChange(key)
		sub(shared.EntityKey{Entity: "unknown", ID: "1"}) // logged, and nothing else
		dc <- true
		close(dc)
		synctest.Wait()
		if st := b.Stats(); len(got) != 2 || st.Clients != 0 || st.Subscriptions != 0 {
			t.Errorf("after leaving: %d rows, %+v", len(got), st)
		}
		if err := b.NotifyAllOfChange(shared.EntityKey{Entity: "unknown", ID: "1"}); err == nil {
			t.Error("notifying of an unregistered entity returned nil")
		}
	})
}

// A function knows of no context, and a call waits no longer than it may all the same.
func TestAStuckQueueIsNotWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		unstuck := make(chan struct{})
		stuck := func(shared.EntityType) shared.ByteHandler { return func([]byte) { <-unstuck } }
		b := bridge.BuildBridge(stuck, new(ownQueue).subscriber, func(shared.EntityKey, string, shared.ByteHandler) {})
		defer b.Close(t.Context())
		defer close(unstuck)
		if err := b.RegisterEntityForSync(items); err != nil {
			t.Fatal(err)
		}
		hurried, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		for _, call := range []struct {
			allowed time.Duration
			notify  func() error
		}{
			{100 * time.Millisecond, func() error { return b.Notify(hurried, key) }},
			{time.Second, func() error { return b.NotifyAllOfChange(key) }},
		} {
			begin := time.Now()
			err := call.notify()
			if took := time.Since(begin); took != call.allowed || !errors.Is(err, shared.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the call returned %v after %v, want ErrUnavailable after %v", err, took, call.allowed)
			}
		}
	})
}

func TestAPanickingQueueIsAnError(t *testing.T) {
	broken := func(shared.EntityType) shared.ByteHandler {
		return func([]byte) { panic("connection refused") }
	}
	nothing := func(shared.EntityKey, string, shared.ByteHandler) {}
	b := bridge.BuildBridge(broken, (&ownQueue{}).subscriber, nothing)
	defer b.Close(t.Context())
	if err := b.RegisterEntityForSync(items); err != nil {
		t.Fatal(err)
	}
	if err := b.NotifyAllOfChange(key); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("NotifyAllOfChange returned %v, want what the publisher panicked with", err)
	}
	b = bridge.BuildBridge(broken, func(shared.EntityType, shared.ByteHandler) { panic("no queue") }, nothing)
	defer b.Close(t.Context())
	if err := b.RegisterEntityForSync(items); err == nil {
		t.Error("RegisterEntityForSync returned nil though the subscriber panicked")
	}
}

// The function interface has no call that says "the secret changed".
func TestAFunctionClientsSecretIsAskedForBeforeEveryPush(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGate()
		n := newNode(t, &membus.Broker{})
		n.register(t, g.fetch, bridge.EntityOptions{})
		var mu sync.Mutex
		secret := mark + "old"
		setSecret := func(s string) { mu.Lock(); defer mu.Unlock(); secret = s }
		var got []string
		sub, _, dc := n.ClientBuilder(func(row []byte) { got = append(got, string(row)) },
			func() string { mu.Lock(); defer mu.Unlock(); return secret })
		sub(key)

		setSecret(mark + "new")
		sub(key)
		n.notify(t, key)
		if s := <-g.entered; s != mark+"new" {
			t.Errorf("fetched with %q, want the secret that it had when it subscribed last", s)
		}
		setSecret(mark + "newer") // while the fetch is under way
		g.release <- row("for new")
		if s := <-g.entered; s != mark+"newer" {
			t.Errorf("fetched again with %q, want the newer secret", s)
		}
		g.release <- row("for newer")
		synctest.Wait()
		if !slices.Equal(got, []string{"for newer"}) {
			t.Errorf("got %q, want the row of the last secret alone", got)
		}
		close(dc)
	})
}

// Whatever an old secret leads to, the rows of the new one come. The application says nothing
// of the change but by the function that tells the secret.
func TestAFunctionClientsOldSecretIsGivenUp(t *testing.T) {
	for name, old := range map[string]func() ([][]byte, error){
		"it sees a row":            row("for old"),
		"it has nothing to see":    func() ([][]byte, error) { return nil, nil },
		"it is refused":            func() ([][]byte, error) { return nil, shared.ErrForbidden },
		"its row is gone":          func() ([][]byte, error) { return nil, shared.ErrNotFound },
		"the handler fails for it": func() ([][]byte, error) { return nil, errors.New("no such session") },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				n := newNode(t, &membus.Broker{})
				n.register(t, func(_ context.Context, _ shared.EntityKey, secret string) ([][]byte, error) {
					if secret == mark+"old" {
						return old()
					}
					return [][]byte{[]byte("for new")}, nil
				}, bridge.EntityOptions{})
				var secret atomic.Value
				secret.Store(mark + "old")
				got := make(chan string, 10)
				sub, unSub, dc := n.ClientBuilder(func(row []byte) { got <- string(row) }, func() string { return secret.Load().(string) })
				defer close(dc)
				sub(key)
				secret.Store(mark + "new")
				n.notify(t, key)
				time.Sleep(time.Minute)
				if len(got) != 1 || <-got != "for new" {
					t.Error("the row of the new secret did not come, or not alone")
				}
				unSub(key)
				n.notify(t, key)
				time.Sleep(time.Minute)
				if st := n.Stats(); len(got) != 0 || st.Subscriptions != 0 || st.Stale != 0 {
					t.Errorf("after it left: %d rows, %+v", len(got), st)
				}
			})
		})
	}
}

// A function client that leaves while it takes its new secret over, or before its rows are
// fetched with that, stays away.
func TestAFunctionClientThatLeavesIsNotSubscribedAgain(t *testing.T) {
	for leaves := range int64(2) {
		bubble(t, func(t *testing.T) {
			var secret atomic.Value
			secret.Store(mark + "old")
			var asked atomic.Int64
			held, goOn := make(chan bool), make(chan bool)
			n := newNode(t, &membus.Broker{})
			n.register(t, func(_ context.Context, _ shared.EntityKey, s string) ([][]byte, error) {
				if s == mark+"old" {
					secret.Store(mark + "new")
					return nil, shared.ErrForbidden
				}
				return [][]byte{[]byte("for new")}, nil
			}, bridge.EntityOptions{Scope: func(s string) string {
				if s == mark+"new" && asked.Add(1) == leaves+1 {
					held <- true
					<-goOn
				}
				return s
			}})
			got := make(chan string, 10)
			sub, unSub, dc := n.ClientBuilder(func(row []byte) { got <- string(row) }, func() string { return secret.Load().(string) })
			defer close(dc)
			sub(key)
			n.notify(t, key)
			<-held
			unSub(key)
			goOn <- true
			synctest.Wait()
			if st := n.Stats(); len(got) != 0 || st.Subscriptions != 0 {
				t.Errorf("%d rows, and %d subscriptions, after it left", len(got), st.Subscriptions)
			}
		})
	}
}

func TestAFunctionClientThatBlocksGetsTheNewestRow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var db table
		n := newNode(t, &membus.Broker{})
		n.register(t, db.fetch, bridge.EntityOptions{})
		unblock := make(chan struct{})
		var got []string
		sub, _, dc := n.ClientBuilder(func(row []byte) {
			got = append(got, string(row))
			<-unblock
		}, func() string { return mark })
		sub(key)
		for range 100 {
			db.write(key)
			n.notify(t, key)
			synctest.Wait()
		}
		close(unblock)
		synctest.Wait()
		want := []string{`{"id":"100","rev":1,"for":"` + mark + `"}`, `{"id":"100","rev":100,"for":"` + mark + `"}`}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want the first and the last", got)
		}
		close(dc)
	})
}

func TestPanickingFunctionsOfAClientHarmNobody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var db table
		n := newNode(t, &membus.Broker{})
		n.register(t, db.fetch, bridge.EntityOptions{})
		sub, _, dc := n.ClientBuilder(func([]byte) { panic("no socket") }, func() string { panic("no secret") })
		sub(key)
		s := newScreen(n, "")
		s.subscribe(t, key, bridge.SubscribeOptions{})
		n.notify(t, key)
		synctest.Wait()
		if got := len(s.all()); got != 1 {
			t.Errorf("the bystander saw %d updates, want 1", got)
		}
		close(dc)
	})
}

func TestAHandlerThatCallsBackLateIsIgnored(t *testing.T) {
	late := make(chan shared.ByteHandler, 1)
	fetch := shared.Collect(func(_ shared.EntityKey, _ string, push shared.ByteHandler) {
		push([]byte("in time"))
		late <- push
	})
	rows, err := fetch(context.Background(), key, "")
	(<-late)([]byte("late"))
	if err != nil || len(rows) != 1 {
		t.Errorf("got %q, %v, want the row in time", rows, err)
	}
}

func TestClosingTheBridgeLetsFunctionClientsGo(t *testing.T) {
	n := newNode(t, &membus.Broker{})
	_, _, dc := n.ClientBuilder(func([]byte) {}, func() string { return mark })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := n.Close(ctx); err != nil {
		t.Fatal(err)
	}
	select {
	case dc <- true: // must not block the web side, though nobody listens any more
	case <-time.After(patience):
		t.Error("saying goodbye to a closed bridge blocks")
	}
}

// A notification names several keys, all of which are refused to who the client was: each
// is there for who it is.
func TestAFunctionClientResumesAllThatWasRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, &membus.Broker{})
		n.register(t, func(_ context.Context, k shared.EntityKey, secret string) ([][]byte, error) {
			if secret == mark+"old" {
				return nil, shared.ErrForbidden
			}
			return [][]byte{[]byte(k.ID)}, nil
		}, bridge.EntityOptions{})
		var secret atomic.Value
		secret.Store(mark + "old")
		got := make(chan string, 100)
		sub, _, dc := n.ClientBuilder(func(row []byte) { got <- string(row) }, func() string { return secret.Load().(string) })
		defer close(dc)
		var keys []shared.EntityKey
		for i := range 10 {
			keys = append(keys, shared.EntityKey{Entity: items, ID: fmt.Sprint(i)})
			sub(keys[i])
		}
		secret.Store(mark + "new")
		n.notify(t, keys...)
		time.Sleep(time.Minute)
		seen := make(map[string]bool)
		for len(got) > 0 {
			seen[<-got] = true
		}
		if len(seen) != len(keys) || n.Stats().Subscriptions != len(keys) {
			t.Errorf("%d of %d keys have come, and %d are subscribed to", len(seen), len(keys), n.Stats().Subscriptions)
		}
	})
}

// A secret function that returns something else at every call costs a fetch for each key
// now and then, whatever comes of it.
func TestASecretThatNeverIsTheSameCostsFewFetches(t *testing.T) {
	for name, rows := range map[string]func() ([][]byte, error){
		"rows": func() ([][]byte, error) { return [][]byte{[]byte("row")}, nil }, "nothing": func() ([][]byte, error) { return nil, nil },
		"forbidden": func() ([][]byte, error) { return nil, shared.ErrForbidden },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				n := newNode(t, &membus.Broker{})
				n.register(t, func(context.Context, shared.EntityKey, string) ([][]byte, error) { return rows() }, bridge.EntityOptions{})
				var calls atomic.Int64
				sub, _, dc := n.ClientBuilder(func([]byte) {}, func() string { return fmt.Sprint(mark, calls.Add(1)) })
				defer close(dc)
				sub(key)
				n.notify(t, key)
				time.Sleep(time.Minute)
				if fetches := n.Stats().Fetches; fetches == 0 || fetches > 150 {
					t.Errorf("%d fetches in a minute", fetches)
				}
			})
		})
	}
}

// When the bus is lost all clients are stale in the same instant. Each one's secret is asked
// for about once a second from then on, and not all of them at once.
func TestTheSecretsOfStaleClientsAreAskedForOneByOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const clients = 1000
		var broker membus.Broker
		n := newNode(t, &broker)
		n.register(t, func(context.Context, shared.EntityKey, string) ([][]byte, error) { return nil, nil }, bridge.EntityOptions{})
		var mu sync.Mutex
		asked := make([][]time.Time, clients)
		for i := range clients {
			sub, _, dc := n.ClientBuilder(func([]byte) {}, func() string {
				mu.Lock()
				defer mu.Unlock()
				asked[i] = append(asked[i], time.Now())
				return mark
			})
			defer close(dc)
			sub(key)
		}
		synctest.Wait()
		clear(asked)
		lost := time.Now()
		broker.SetDown(true)
		time.Sleep(10 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		tenths := make(map[time.Duration]int)
		for i, times := range asked {
			before := lost
			for _, at := range append(times, time.Now()) {
				if at.Sub(before) > 1500*time.Millisecond {
					t.Fatalf("client %d was asked for %v after the bus was lost, and then for %v not", i, before.Sub(lost), at.Sub(before))
				}
				before = at
				tenths[at.Sub(lost)/(100*time.Millisecond)]++
			}
		}
		delete(tenths, 100) // the end
		for tenth, together := range tenths {
			if together > clients/2 {
				t.Errorf("%d of %d secrets are asked for in the same tenth of a second, number %d", together, clients, tenth)
			}
		}
	})
}

// A secret function that waits holds up its own client and Close, which keeps to its time.
func TestASecretFunctionThatWaitsHoldsUpItsClientAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var db table
		n := newNode(t, &membus.Broker{})
		n.register(t, db.fetch, bridge.EntityOptions{})
		var waits atomic.Bool
		goOn := make(chan bool)
		rows := make(map[string]int)
		var mu sync.Mutex
		connect := func(name string, getSecret func() string) (dc chan bool) {
			sub, _, dc := n.ClientBuilder(func([]byte) {
				mu.Lock()
				defer mu.Unlock()
				rows[name]++
			}, getSecret)
			sub(key)
			return dc
		}
		slow := connect("slow", func() string {
			if waits.Load() {
				<-goOn
			}
			return mark
		})
		quick := connect("quick", func() string { return mark })
		defer close(quick)
		waits.Store(true)
		n.notify(t, key)
		time.Sleep(time.Minute)
		mu.Lock()
		if rows["slow"] != 0 || rows["quick"] != 1 {
			t.Errorf("rows that have come: %v, want that of the quick one", rows)
		}
		mu.Unlock()
		close(slow)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := n.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close returned %v while the function waits", err)
		}
		close(goOn)
		if err := n.Close(t.Context()); err != nil {
			t.Errorf("Close returned %v after the function has returned", err)
		}
	})
}
