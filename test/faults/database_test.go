package faults

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// The database crashes and comes back. Nobody storms it: not while it is down,
// and not when it is there again.
func TestF12DatabaseDown(t *testing.T) {
	w := newWorld(t, shape{nsqds: 1, nodes: 2})
	keys := append(w.keysOf(items, "item", 40), w.keysOf(batch, "batch", 40)...)
	w.crowd(sized(100, 1000), 4, keys)
	w.settle()
	l := w.startLoad(3, 10*time.Millisecond, keys)
	w.sleep(500 * time.Millisecond)

	before := make(map[*node]nodeStats)
	for _, n := range w.nodes {
		before[n] = n.stats(t)
	}
	w.db.Server.Stop()
	down := sized(4*time.Second, 30*time.Second)
	w.sleep(down / 2)
	// News of every key comes while nothing can be fetched.
	for _, k := range keys {
		if a, err := w.someNode().write(t.Context(), writeRequest{Do: announce, Key: k}); err != nil || a.Error != "" {
			t.Errorf("announcing while the database is down: %v %s", err, a.Error)
		}
	}
	back := w.doubt("the database is down, and every key has changed")
	w.sleep(down / 2)
	for _, n := range w.nodes {
		s, was := n.stats(t), before[n]
		failed := s.FetchesFailed - was.FetchesFailed
		t.Logf("while the database was down for %v node %s tried %d fetches for %d views", down, n.config.Name, failed, s.Views)
		if failed == 0 {
			t.Error("no fetch failed: the database was not down")
		}
		// Each view waits 100 ms, doubled to 30 s, less at random: half of that on
		// average. In t seconds that is about 2 + log2(20 t) tries, of which there
		// may be more by chance, and ten a second because of news of a key.
		if most := uint64(s.Views)*16 + uint64(down/time.Second)*30; failed > most {
			t.Errorf("node %s tried %d fetches of %d views while the database was down, want %d at most", n.config.Name, failed, s.Views, most)
		}
		if s.Clients != was.Clients {
			t.Errorf("node %s has %d clients, and had %d before the database went down", n.config.Name, s.Clients, was.Clients)
		}
		before[n] = s
	}
	l.end() // so that what is fetched from now on is what had failed
	back()
	if err := w.db.Server.Start(); err != nil {
		t.Fatal(err)
	}
	up := time.Now()
	most := w.watchConnections(sized(time.Second, 10*time.Second))
	w.settle()
	t.Logf("all is well %v after the database is back", round(time.Since(up)))
	l.report()
	for i, n := range w.nodes {
		allowed := n.config.Pool * (len(entityTypes) + 1)
		if most[i] > allowed {
			t.Errorf("node %s had %d connections to the database, want %d at most", n.config.Name, most[i], allowed)
		}
		s, was := n.stats(t), before[n]
		fetched := s.Fetches - was.Fetches
		t.Logf("node %s fetched %d times for %d views when the database was back (%d of that failed), over %d connections of %d allowed",
			n.config.Name, fetched, was.Views, s.FetchesFailed-was.FetchesFailed, most[i], allowed)
		// Each view once, and a few more times those that were tried while it was
		// still recovering.
		if fetched > uint64(was.Views)*4 {
			t.Errorf("node %s fetched %d times for %d views when the database was back", n.config.Name, fetched, was.Views)
		}
	}
	l = w.startLoad(3, 10*time.Millisecond, keys)
	w.sleep(500 * time.Millisecond)
	l.end()
	w.settle()
	if l.refused > 0 {
		t.Errorf("%d writes were not taken after the database was back", l.refused)
	}
}

// watchConnections returns the most connections that each node had within d.
func (w *world) watchConnections(d time.Duration) []int {
	w.t.Helper()
	conn := w.db.connect(w.t)
	defer conn.Close(context.Background())
	most := make([]int, len(w.nodes))
	for end := time.Now().Add(d); time.Now().Before(end); w.sleep(20 * time.Millisecond) {
		for i, n := range w.nodes {
			now, err := connections(w.t.Context(), conn, n.config.Name)
			if err != nil {
				w.t.Fatal(err)
			}
			most[i] = max(most[i], now)
		}
	}
	return most
}

// Somebody locks a table: fetches of that type hang, and nothing else does.
func TestF13LockedTable(t *testing.T) {
	onlyFull(t)
	w := newWorld(t, shape{nsqds: 1, nodes: 2, node: nodeConfig{FetchTimeout: sized(time.Second, 5*time.Second)}})
	locked := w.keysOf(batch, "batch", 40)
	keys := append(w.keysOf(items, "item", 40), locked...)
	w.crowd(sized(60, 500), 4, keys)
	b := w.addBystander(items, "bystander", w.nodes[0], w.nodes[1])
	w.warm()
	w.settle()
	before := b.calm(sized(time.Second, 5*time.Second))
	was := w.measure()

	lock := w.db.connect(t)
	defer lock.Close(context.Background())
	tx, err := lock.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "lock table batch in access exclusive mode"); err != nil {
		t.Fatal(err)
	}
	// While it is locked rows change, in the transaction that holds the lock.
	if _, err := tx.Exec(t.Context(), "update batch set rev = rev + 1"); err != nil {
		t.Fatal(err)
	}
	hold := time.Now().Add(sized(4*time.Second, 20*time.Second))
	for i := 0; time.Now().Before(hold); i++ {
		if _, err := w.nodes[i%2].write(t.Context(), writeRequest{Do: announce, Key: locked[i%len(locked)]}); err != nil {
			t.Fatal(err)
		}
		w.sleep(20 * time.Millisecond)
	}
	b.undisturbed(before, time.Second)
	for _, n := range w.nodes {
		s := n.stats(t)
		t.Logf("node %s has %d goroutines (%d before), %d fetches failed", n.config.Name, s.Goroutines, was[n].Goroutines, s.FetchesFailed)
		if s.FetchesFailed == 0 {
			t.Errorf("node %s: no fetch failed: nothing hung", n.config.Name)
		}
		// 32 workers, and what each needs of the database's driver.
		if s.Goroutines > was[n].Goroutines+3*32 {
			t.Errorf("INV6: node %s has %d goroutines, and had %d before", n.config.Name, s.Goroutines, was[n].Goroutines)
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, k := range locked {
		if a, err := w.nodes[0].write(t.Context(), writeRequest{Do: announce, Key: k}); err != nil || a.Error != "" {
			t.Fatal(err, a.Error)
		}
	}
	b.end()
	t.Logf("all is well %v after the lock has gone", round(w.settle()))
}

// Thousands of keys change at once, and there are four connections to read them.
func TestF15SmallPool(t *testing.T) {
	n := 5000
	w := newWorld(t, shape{nsqds: 1, nodes: 1, node: nodeConfig{Pool: 4}})
	var ids []string
	for i := range n {
		ids = append(ids, fmt.Sprintf("many%d", i))
	}
	w.db.create(t, items, "", ids...)
	each := 500
	for c := range n / each {
		keys := keysNamed(items, ids[c*each:(c+1)*each])
		w.join(fmt.Sprintf("user%d", c), w.anyNode, keys...)
	}
	b := w.addBystander(batch, "bystander", w.nodes[0], w.nodes[0])
	w.warm()
	t.Logf("%d first rows arrived after %v", n, round(w.settle()))
	before := b.calm(sized(time.Second, 5*time.Second))

	for range sized(1, 5) {
		was := w.nodes[0].stats(t)
		conn := w.db.connect(t)
		_, err := conn.Exec(t.Context(), "update items set rev = rev + 1")
		conn.Close(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		s := w.nodes[0].storm(t, stormRequest{Entity: items, Prefix: "many", IDs: n, Calls: n / 100, PerCall: 100, Workers: 4})
		if s.Errors > 0 {
			t.Errorf("%d calls of Notify failed", s.Errors)
		}
		took := w.settle()
		fetched := w.nodes[0].stats(t).Fetches - was.Fetches
		t.Logf("all %d have changed after %v, with %d fetches", n, round(took), fetched)
	}
	// It shares the machine with thousands of fetches, not the pool or the queue.
	b.undisturbed(before, 2*time.Second)
	b.end()
	w.settle()
}
