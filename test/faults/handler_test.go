package faults

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/shared"
)

// A fetch handler panics, fails, returns far too much and what is no text, one
// after another. It recovers, and nobody else notices.
func TestF14SickHandler(t *testing.T) {
	w := newWorld(t, shape{nsqds: 1, nodes: 2, node: nodeConfig{FetchTimeout: sized(500*time.Millisecond, 5*time.Second)}})
	sickKeys := w.keysOf(sick, canary.Decoy(canary.Node), 8) // the nodes log some of these keys
	w.crowd(sized(30, 300), 3, append(w.keysOf(items, "item", 20), sickKeys...))
	b := w.addBystander(items, "bystander", w.nodes[0], w.nodes[1])
	w.warm()
	w.settle()
	before := b.calm(sized(time.Second, 5*time.Second))
	for _, s := range []sickness{panicky, failing, bloated, garbled, hanging} {
		was := w.nodes[1].stats(t)
		for _, n := range w.nodes {
			n.suffer(t, s, w.random.Uint64())
		}
		l := w.startLoad(2, 10*time.Millisecond, sickKeys)
		w.sleep(sized(800*time.Millisecond, 10*time.Second))
		l.end()
		for _, n := range w.nodes {
			n.suffer(t, well, 0)
		}
		took := w.settle()
		is := w.nodes[1].stats(t)
		if is.FetchesFailed == was.FetchesFailed {
			t.Errorf("the handler was not %s: no fetch failed", s)
		}
		t.Logf("%s: %d fetches failed, all is well %v after it recovered; heap %d KiB, %d KiB before",
			s, is.FetchesFailed-was.FetchesFailed, round(took), is.Heap>>10, was.Heap>>10)
		// Nothing of what was too much is kept.
		if is.Heap > was.Heap+10<<20 {
			t.Errorf("INV6: the heap grew from %d to %d bytes", was.Heap, is.Heap)
		}
	}
	b.undisturbed(before, time.Second)
	b.end()
	w.settle()
}

// The handler reads a replica that lags: every other time it returns the row as
// it was before. By its revision Entity Sync can tell, and takes nobody back.
func TestF16LaggingReplica(t *testing.T) {
	w := newWorld(t, shape{nsqds: 1, nodes: 2})
	keys := w.keysOf(ordered, "row", 24)
	w.crowd(sized(60, 500), 4, keys)
	// The same without revisions shows that there is something to be told.
	unordered := w.keysOf(sick, "row", 8)
	control := newChecker()
	old := startClient(control, fork(w.random), "old", options{dial: w.anyNode}, unordered)
	t.Cleanup(old.leave)
	w.untilReady()
	w.settle()
	for _, n := range w.nodes {
		n.suffer(t, outdated, w.random.Uint64())
	}
	l := w.startLoad(3, 10*time.Millisecond, append(unordered, keys...))
	w.sleep(sized(2*time.Second, 60*time.Second))
	// How many writes that takes depends on chance, and how long on the machine.
	w.until("a client without revisions is taken back: the handler lags", func() bool {
		return strings.Contains(some(control.found()), "INV2")
	})
	l.end()
	for _, n := range w.nodes {
		n.suffer(t, well, 0)
	}
	went := control.found()
	// What was fetched last may be what the replica had, as documented. Now it
	// has caught up, and says so.
	for _, k := range keys {
		if a, err := w.nodes[0].write(t.Context(), writeRequest{Do: announce, Key: k}); err != nil || a.Error != "" {
			t.Fatal(err, a.Error)
		}
	}
	t.Logf("without revisions a client was taken back, such as: %s", went[0])
	t.Logf("with them all is well %v after the replica has caught up", round(w.settle()))
	l.report()
}

// Rows change while they are being fetched: what was read too early is not the
// last that anybody hears.
func TestF25WriteDuringFetch(t *testing.T) {
	w := newWorld(t, shape{nsqds: 1, nodes: 2})
	keys := w.keysOf(sick, "row", 4)
	w.crowd(sized(20, 200), 4, keys)
	w.untilReady()
	w.settle()
	for _, n := range w.nodes {
		n.suffer(t, slow, w.random.Uint64())
	}
	bursts := sized(15, 300)
	var longest time.Duration
	for range bursts {
		for range 1 + w.random.IntN(6) {
			a, err := w.nodes[w.random.IntN(2)].write(t.Context(), writeRequest{Do: update, Key: keys[w.random.IntN(len(keys))]})
			if err != nil || a.Error != "" {
				t.Fatal(err, a.Error)
			}
			// A fetch takes up to 100 ms.
			w.sleep(time.Duration(w.random.IntN(30)) * time.Millisecond)
		}
		longest = max(longest, w.settle())
		if t.Failed() {
			return // each further burst would only take its time
		}
	}
	t.Logf("after each of %d bursts of writes everybody had the last within %v", bursts, round(longest))
}

// Clients say another secret, and let keys go, while fetches are under way.
func TestF26SecretsChange(t *testing.T) {
	w := newWorld(t, shape{nsqds: 1, nodes: 2})
	keys := append(w.keysOf(sick, "sick", 24), w.keysOf(items, "item", 8)...)
	var wideKeys []shared.EntityKey
	for i := range 32 {
		k := key(items, fmt.Sprintf("row%d-wide", i))
		wideKeys = append(wideKeys, k)
		w.db.create(t, items, "", k.ID)
	}
	w.crowd(sized(60, 500), 8, keys)
	// Some read slowly, so that much waits for them when their secret changes.
	for i := range 6 {
		w.joinWith(fmt.Sprintf("sluggish%d", i), options{
			dial: w.anyNode, dialer: slowDialer(), onRow: func(row) { time.Sleep(10 * time.Millisecond) },
		}, wideKeys)
	}
	for _, n := range w.nodes {
		n.suffer(t, slow, w.random.Uint64())
	}
	w.untilReady()
	l := w.startLoad(3, 5*time.Millisecond, keys)
	wideLoad := w.startLoad(4, time.Millisecond, wideKeys)
	switches, settled, left := 0, 0, 0
	const enough = 50 // changes that had rows, to show anything
	end := time.Now().Add(sized(4*time.Second, 60*time.Second))
	for late := end.Add(patience); time.Now().Before(end) || settled < enough && time.Now().Before(late); w.sleep(2 * time.Millisecond) {
		c := w.clients[w.random.IntN(len(w.clients))]
		if w.random.IntN(10) == 0 {
			c = w.clients[len(w.clients)-1-w.random.IntN(6)] // a sluggish one
		}
		if c.settled() {
			settled++
		} else if w.random.IntN(4) > 0 {
			continue // mostly the new secret's rows are waited for, which is when the old one's may come no more
		}
		if c.wire == v2Wire && w.random.IntN(4) == 0 {
			_ = c.unsubscribe(c.keys[:1+w.random.IntN(len(c.keys))]...) // the reader notices a connection that is gone
			left++
		}
		c.become(fmt.Sprintf("user%d", w.random.IntN(20)), w.random.IntN(2) == 0)
		switches++
	}
	l.end()
	wideLoad.end()
	// A subscription ends when its key may not be seen. Whoever has become
	// somebody who may see it must subscribe again.
	for _, c := range w.clients {
		c.become(fmt.Sprintf("user%d", w.random.IntN(20)), true)
	}
	t.Logf("%d changes of a secret, %d of them after rows of the one before had come, %d of them right after keys were let go; all is well after %v",
		switches, settled, left, round(w.settle()))
	l.report()
	if settled < enough {
		t.Errorf("only %d changes of a secret that had rows: too few to show anything", settled)
	}
}

// Rows are deleted, and created again with a lower revision.
func TestF29DeletedAndCreatedAgain(t *testing.T) {
	w := newWorld(t, shape{nsqds: 1, nodes: 2})
	var keys []shared.EntityKey
	for i := range 10 {
		keys = append(keys, key(items, fmt.Sprint("item", i)), key(batch, fmt.Sprint("batch", i)))
	}
	w.crowd(sized(60, 500), 4, keys)
	w.untilReady()
	l := w.startLoadWith(3, 5*time.Millisecond, keys, true)
	w.sleep(sized(2*time.Second, 60*time.Second))
	l.end()
	t.Logf("all is well after %v", round(w.settle()))
	l.report()
	// Each of the rows is created for the last time, after all that was before.
	for _, k := range keys {
		for _, do := range []string{remove, update, update} {
			if a, err := w.nodes[w.random.IntN(2)].write(t.Context(), writeRequest{Do: do, Key: k}); err != nil || a.Error != "" {
				t.Fatal(err, a.Error)
			}
		}
	}
	t.Logf("created for the last time, all is well after %v", round(w.settle()))
	for k, r := range w.truth() {
		if r.Rev != 2 {
			t.Errorf("%s has revision %d, want 2: the test is wrong", k.Hash(), r.Rev)
		}
	}
}
