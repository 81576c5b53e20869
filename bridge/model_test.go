package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/internal/conflate"
	"github.com/entity-sync/entity-sync/shared"
)

// reader is a client of the model: it reads its outbox when the schedule says
// so, and checks every update against what it was promised.
type reader struct {
	*bridge.Client
	mu       sync.Mutex
	queue    conflate.Queue[*bridge.Update]
	secret   string
	last     map[shared.EntityKey]seen // since it subscribed
	complain func(format string, args ...any)
}

type seen struct {
	rev    int
	secret string
}

func (r *reader) Push(s *bridge.Slot, u *bridge.Update) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue.Put(s, u)
}

func (r *reader) Drop(s *bridge.Slot) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.queue.Drop(s)
}

func (r *reader) pop() (*bridge.Update, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, u, ok := r.queue.Pop()
	return u, ok
}

func (r *reader) read() {
	for u, ok := r.pop(); ok; u, ok = r.pop() {
		before, watching := r.last[u.Key]
		if !watching {
			r.complain("a push of %v, which is not subscribed", u.Key)
		}
		var now seen
		if _, err := fmt.Sscanf(string(u.Rows[0]), "%d %s", &now.rev, &now.secret); err != nil {
			r.complain("row %q: %v", u.Rows[0], err)
		}
		if now.secret != r.secret {
			r.complain("a row fetched with %q went to %q", now.secret, r.secret)
		}
		if now.rev < before.rev {
			r.complain("%v went back from revision %d to %d", u.Key, before.rev, now.rev)
		}
		r.last[u.Key] = now
	}
}

// TestPromisesUnderRandomSchedules drives two nodes, a bus that loses, doubles,
// delays and reorders messages and goes down altogether, slow
// and failing fetches, and clients that subscribe, leave, change their secret
// and read late, in random order on a clock of its own; and then checks that
// everybody ends up with the newest row of everything they watch.
func TestPromisesUnderRandomSchedules(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var failure any
		synctest.Test(t, func(t *testing.T) {
			// rapid ends a failing schedule by panicking, which must not pass
			// through the bubble.
			defer func() { failure = recover() }()
			schedule(t, rt)
		})
		if failure != nil {
			panic(failure)
		}
	})
}

// world is the database of the model.
type world struct {
	mu  sync.Mutex
	rev map[shared.EntityKey]int
}

func (w *world) write(k shared.EntityKey) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rev[k]++
}

func (w *world) read(k shared.EntityKey) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rev[k]
}

// fetcher reads, then dawdles, then may fail: as the ordinal of the fetch and
// the schedule decide, so that the schedule is the only source of chance.
func (w *world) fetcher(dawdle []int) shared.Fetcher {
	fetches := 0 // one worker a node
	return func(_ context.Context, k shared.EntityKey, secret string) ([][]byte, error) {
		n := dawdle[fetches%len(dawdle)]
		fetches++
		row := fmt.Appendf(nil, "%d %s", w.read(k), secret)
		time.Sleep(time.Duration(n) * time.Second)
		if n == 3 && fetches%5 != 0 {
			return nil, errors.New("broken")
		}
		return [][]byte{row}, nil
	}
}

func drawFate(t *rapid.T) fate {
	switch rapid.IntRange(0, 4).Draw(t, "fate") {
	case 0:
		return fate{lost: true}
	case 1:
		return fate{doubled: true, delay: time.Duration(rapid.IntRange(0, 2000).Draw(t, "delay")) * time.Millisecond}
	default:
		return fate{}
	}
}

func schedule(t *testing.T, rt *rapid.T) {
	const readers, keys = 4, 2
	var (
		broker membus.Broker
		db     = world{rev: map[shared.EntityKey]int{}}
		down   bool
		buses  = [2]*faultyBus{{Bus: broker.NewNode()}, {Bus: broker.NewNode()}}
		nodes  = [2]*node{newNodeOn(t, &broker, buses[0]), newNodeOn(t, &broker, buses[1])}
		all    [readers]*reader
	)
	key := func(rt *rapid.T) shared.EntityKey {
		return shared.EntityKey{Entity: items, ID: fmt.Sprint(rapid.IntRange(0, keys-1).Draw(rt, "key"))}
	}
	for i := range nodes {
		dawdle := rapid.SliceOfN(rapid.IntRange(0, 3), 1, 8).Draw(rt, "dawdle")
		fates, met := rapid.SliceOfN(rapid.Custom(drawFate), 1, 8).Draw(rt, "fates"), 0
		buses[i].setFate(func([]byte) fate { met++; return fates[met%len(fates)] })
		nodes[i].register(t, db.fetcher(dawdle), bridge.EntityOptions{Workers: 1})
	}
	for i := range all {
		all[i] = &reader{secret: "nobody", last: map[shared.EntityKey]seen{}, complain: rt.Fatalf}
		all[i].Client = nodes[i%2].NewClient(all[i], bridge.ClientOptions{Secret: "nobody"})
	}
	who := func(rt *rapid.T) *reader { return all[rapid.IntRange(0, readers-1).Draw(rt, "client")] }

	rt.Repeat(map[string]func(*rapid.T){
		"": func(*rapid.T) { synctest.Wait() },
		"write": func(rt *rapid.T) {
			k := key(rt)
			db.write(k)
			_ = nodes[rapid.IntRange(0, 1).Draw(rt, "node")].Notify(t.Context(), k) // fails while the bus is down
		},
		"subscribe": func(rt *rapid.T) {
			r := who(rt)
			k := key(rt)
			if _, watching := r.last[k]; !watching {
				r.last[k] = seen{}
			}
			if err := r.Subscribe(k, withSnapshot); err != nil {
				rt.Fatal(err)
			}
		},
		"unsubscribe": func(rt *rapid.T) {
			r := who(rt)
			k := key(rt)
			r.Unsubscribe(k)
			delete(r.last, k)
		},
		"secret": func(rt *rapid.T) {
			r := who(rt)
			r.secret = rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "secret")
			r.SetSecret(r.secret)
		},
		"read": func(rt *rapid.T) { who(rt).read() },
		"bus":  func(*rapid.T) { down = !down; broker.SetDown(down) },
		"wait": func(rt *rapid.T) {
			time.Sleep(time.Duration(rapid.IntRange(1, 3000).Draw(rt, "ms")) * time.Millisecond)
		},
	})

	// The weather clears: no message is lost any more, beats least of all.
	for _, bus := range buses {
		bus.setFate(nil)
	}
	broker.SetDown(false)
	time.Sleep(5 * time.Minute) // more than the longest back-off and every queue
	for i, r := range all {
		r.read()
		for k, last := range r.last {
			if want := (seen{db.read(k), r.secret}); last != want {
				rt.Errorf("client %d ends with %+v of %v, want %+v", i, last, k, want)
			}
		}
		r.Close()
	}
	synctest.Wait()
	for i, n := range nodes {
		if st := n.Stats(); st.Views != 0 || st.Subscriptions != 0 || st.Clients != 0 || st.FetchesQueued != 0 {
			rt.Errorf("node %d has not let go of everything: %+v", i, st)
		}
		if err := n.Close(t.Context()); err != nil {
			rt.Error(err)
		}
	}
}
