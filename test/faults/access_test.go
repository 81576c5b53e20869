package faults

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/wire"
)

// revokedWithin is how soon all sessions of a secret have ended everywhere.
const revokedWithin = time.Second

// Rows are given to somebody who alone may see them from then on: everybody else is
// told, and gets nothing of them any more.
func TestF27AccessWithdrawn(t *testing.T) {
	w := newWorld(t, shape{nsqds: 1, nodes: 2})
	keys := append(w.keysOf(items, "item", 24), w.keysOf(batch, "batch", 24)...)
	w.crowd(sized(60, 500), 6, keys)
	w.untilReady()
	w.settle()
	l := w.startLoad(3, 5*time.Millisecond, keys)
	var longest time.Duration
	given := 0
	for end := time.Now().Add(sized(time.Second, 20*time.Second)); time.Now().Before(end); given++ {
		k := keys[w.random.IntN(len(keys))]
		a, err := w.nodes[w.random.IntN(2)].write(t.Context(), writeRequest{Do: give, Key: k, To: fmt.Sprintf("user%d", w.random.IntN(20))})
		if err != nil || a.Error != "" {
			t.Fatal(err, a.Error)
		}
		begin := time.Now()
		w.until("whoever may not see it any more is told", func() bool { return w.check.watchingWrongly(k, w.truth()) == 0 })
		longest = max(longest, time.Since(begin))
	}
	l.end()
	w.askAgain() // who may see something now that was not theirs before
	t.Logf("%d rows were given to somebody else, and all others told within %v; all is well after %v", given, round(longest), round(w.settle()))
	l.report()

	for _, k := range keys {
		a, err := w.nodes[0].write(t.Context(), writeRequest{Do: give, Key: k, To: "nobody"})
		if err != nil || a.Error != "" {
			t.Fatal(err, a.Error)
		}
	}
	t.Logf("nobody may see anything, and everybody was told after %v", round(w.settle()))
}

// askAgain has every client subscribe to all it watches.
func (w *world) askAgain() {
	for _, c := range w.clients {
		_ = c.subscribe() // the reader notices a connection that is gone
	}
}

// holder is a client that goes by a secret which others have too.
type holder struct {
	*client
	mu    sync.Mutex
	ends  []error
	times []time.Time // of the ends
	last  time.Time   // when its last row came
}

// hold adds clients of one identity, at both nodes, with both wires.
func (w *world) hold(identity string, n int, keys []shared.EntityKey) (holders []*holder) {
	for i := range n {
		h := &holder{}
		h.client = w.joinWith(userOf(identity), options{
			dial: w.at(w.nodes[i/2%2]), identity: identity,
			onRow: func(row) { h.note(func() { h.last = time.Now() }) },
			onEnd: func(err error) { h.note(func() { h.ends, h.times = append(h.ends, err), append(h.times, time.Now()) }) },
		}, keys)
		holders = append(holders, h)
	}
	return holders
}

func (h *holder) note(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}

// The application withdraws a secret on one node. Its sessions end on all, at once
// and for good; those that are to connect anew do.
func TestF27Revoke(t *testing.T) {
	w := newWorld(t, shape{nsqds: 1, nodes: 2, node: nodeConfig{Verify: true}})
	var keys []shared.EntityKey
	for i := range 8 {
		keys = append(keys, key(items, fmt.Sprint("item", i)), key(batch, fmt.Sprint("batch", i)))
	}
	for _, k := range keys {
		w.db.create(t, k.Entity, "", k.ID)
	}
	w.untilReady()
	w.crowd(sized(40, 200), 4, keys)
	l := w.startLoad(2, 20*time.Millisecond, keys)
	var slowest time.Duration
	for round := range sized(2, 20) {
		ann := fmt.Sprintf("ann.%d", round)
		revoked := w.hold(ann, sized(12, 60), keys)
		asked := w.hold(fmt.Sprintf("bob.%d", round), sized(12, 60), keys)
		w.until("they have rows", func() bool { return w.allHaveRows(revoked) && w.allHaveRows(asked) })
		from := w.nodes[round%2]

		for _, n := range w.nodes {
			n.withdraw(t, ann)
		}
		must(t, from.order(t.Context(), orderRequest{Identity: ann}))
		at := time.Now()
		slowest = max(slowest, w.wantEnds(revoked, wire.CloseRevoked, at))
		must(t, from.order(t.Context(), orderRequest{Identity: fmt.Sprintf("bob.%d", round), Anew: true}))
		slowest = max(slowest, w.wantEnds(asked, wire.CloseDisconnected, time.Now()))
		w.until("those who were asked to are back", func() bool { return w.allHaveRows(asked) })
		w.wantRefused(ann, keys[0])

		for _, h := range revoked {
			h.note(func() {
				if h.last.After(at.Add(revokedWithin)) {
					w.check.breach("INV4: a client got a row %v after its secret was withdrawn", h.last.Sub(at))
				}
				if len(h.ends) != 1 {
					w.check.breach("INV4: a client whose secret was withdrawn had %d connections that ended, want one: %v", len(h.ends), h.ends)
				}
			})
			w.dismiss(h.client)
		}
		for _, h := range asked {
			w.dismiss(h.client)
		}
	}
	l.end()
	t.Logf("all sessions ended within %v of the order", slowest.Round(100*time.Microsecond))
	w.settle()
	l.report()
	for _, c := range w.clients {
		if n := c.ends(); n > 0 {
			t.Errorf("client %s, whom no order was about, lost %d connections", c.name, n)
		}
	}
}

// allHaveRows reports whether all are connected and have a row of each key.
func (w *world) allHaveRows(holders []*holder) bool {
	w.check.mu.Lock()
	defer w.check.mu.Unlock()
	for _, h := range holders {
		if s := h.watcher.session; s == nil || len(s.last) < len(h.keys) {
			return false
		}
	}
	return true
}

// wantEnds waits until each of them was sent away with a code, and returns how long
// after a time the last of them was.
func (w *world) wantEnds(holders []*holder, code int, since time.Time) (slowest time.Duration) {
	w.t.Helper()
	for _, h := range holders {
		w.until("its session has ended", func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			return len(h.ends) > 0
		})
		h.note(func() {
			slowest = max(slowest, h.times[0].Sub(since))
			var closed *websocket.CloseError
			if !errors.As(h.ends[0], &closed) || closed.Code != code {
				w.check.breach("INV4: a session ended with %v, want code %d", h.ends[0], code)
			}
		})
	}
	if slowest > revokedWithin {
		w.check.breach("INV4: the last of %d sessions ended %v after the order, want %v at most", len(holders), slowest, revokedWithin)
	}
	return slowest
}

// wantRefused checks that nobody gets in with an identity any more.
func (w *world) wantRefused(identity string, k shared.EntityKey) {
	w.t.Helper()
	for _, n := range w.nodes {
		conn, err := dialWire(w.t.Context(), websocket.DefaultDialer, n.Addr, v2Wire)
		must(w.t, err)
		defer conn.Close()
		must(w.t, sendTo(conn, "secret", secretOf(identity)))
		must(w.t, sendTo(conn, "subscribe", k))
		must(w.t, conn.SetReadDeadline(time.Now().Add(patience)))
		for range 2 {
			_, message, err := conn.ReadMessage()
			must(w.t, err)
			if f, _ := frameOf(message); f.Action != wire.ActionError || f.Code != wire.CodeUnauthenticated {
				w.check.breach("INV4: with a secret that was withdrawn somebody got %s", message)
				break
			}
		}
	}
}

// dismiss ends a client.
func (w *world) dismiss(c *client) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, other := range w.clients {
		if other == c {
			w.clients = append(w.clients[:i:i], w.clients[i+1:]...)
			break
		}
	}
	c.leave()
}

// Secrets expire. Whoever says a new one in time stays, and everybody else is sent
// away then, with nothing coming after.
func TestF27Expiry(t *testing.T) {
	life := sized(3*time.Second, 5*time.Second)
	w := newWorld(t, shape{nsqds: 1, nodes: 2, node: nodeConfig{Verify: true, Life: life}})
	keys := w.keysOf(items, "item", 8)[:1]
	w.untilReady()
	l := w.startLoad(2, 5*time.Millisecond, keys)
	type visit struct{ from, last time.Time } // the first and last row of a connection
	var mu sync.Mutex
	var visits []visit
	var wrong []string
	n := sized(20, 200)
	var renewing []*client
	for i := range n {
		var now visit
		o := options{dial: w.anyNode}
		o.onRow = func(row) {
			if now.from.IsZero() {
				now.from = time.Now()
			}
			now.last = time.Now()
		}
		o.onEnd = func(err error) {
			mu.Lock()
			defer mu.Unlock()
			if !websocket.IsCloseError(err, wire.CloseExpired) {
				wrong = append(wrong, err.Error())
			}
			visits = append(visits, now)
			now = visit{}
		}
		user := fmt.Sprintf("%s%d", mortal, i)
		if i%4 == 3 { // every other one of those with v2
			var c *client
			ready := make(chan struct{})
			o.onExpiring = func() { <-ready; c.become(user, false) }
			c = w.joinWith(user, o, keys)
			close(ready)
			renewing = append(renewing, c)
			continue
		}
		w.joinWith(user, o, keys)
	}
	w.sleep(life*3 + life/2)
	l.end()
	mu.Lock()
	defer mu.Unlock()
	var longest time.Duration
	for _, v := range visits {
		longest = max(longest, v.last.Sub(v.from))
	}
	t.Logf("%d connections ended because a secret of %v had expired; the last row came %v after the first at most", len(visits), life, round(longest))
	if want := (n - len(renewing)) * 2; len(visits) < want {
		t.Errorf("%d connections ended within %v, want %d at least", len(visits), 3*life, want)
	}
	if len(wrong) > 0 {
		t.Errorf("%d connections ended in another way: %s", len(wrong), some(wrong))
	}
	if longest > life+time.Second {
		t.Errorf("INV4: a client got rows for %v with a secret that lives for %v", longest, life)
	}
	for _, c := range renewing {
		if c.ends() > 0 {
			t.Errorf("client %s, which says a new secret in time, lost a connection", c.name)
		}
	}
}
