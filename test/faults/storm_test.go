package faults

import (
	"fmt"
	"testing"
	"time"
)

// One key is announced as fast as it goes, with many watching it.
func TestF22StormOnOneKey(t *testing.T) {
	w := newWorld(t, shape{nsqds: 1, nodes: 2})
	hot := key(items, "hot0")
	w.db.create(t, items, "", hot.ID)
	b := w.addBystander(batch, "bystander", w.nodes[0], w.nodes[1])
	w.warm()
	before := b.calm(sized(time.Second, 5*time.Second))
	clients, calls := sized(150, 1000), sized(20_000, 500_000)
	join := func() {
		for i := range clients {
			w.join(fmt.Sprintf("user%d", i), w.anyNode, hot)
		}
		w.settle()
	}
	// Once for all that is made at first use and kept.
	join()
	b.end()
	w.nodes[0].storm(t, stormRequest{Entity: items, Prefix: "hot", IDs: 1, Calls: calls / 10, PerCall: 1, Every: 50, Workers: 64})
	w.settle()
	w.leave()
	base := w.measure()
	join()
	b = w.addBystander(batch, "bystander2", w.nodes[0], w.nodes[1])
	b.take()
	was := w.total()
	s := w.nodes[0].storm(t, stormRequest{Entity: items, Prefix: "hot", IDs: 1, Calls: calls, PerCall: 1, Every: 50, Workers: 64})
	took := w.settle()
	is := w.total()
	// The machine is as busy as it can be: this shows only that nobody waits for
	// the storm to end.
	b.undisturbed(before, 2*time.Second)
	b.end()
	fetches := is.Fetches - was.Fetches
	rate := float64(calls) / s.Took.Seconds()
	t.Logf("%d announcements and %d writes in %v (%.0f/s), with %d messages heard by both nodes; %d fetches for %d clients, %.1f each; all is well %v after it",
		calls, s.Writes, round(s.Took), rate, is.Notified-was.Notified, fetches, clients, float64(fetches)/float64(clients), round(took))
	if s.Errors > 0 {
		t.Errorf("%d announcements failed", s.Errors)
	}
	// Without conflation it would be one for each announcement and client.
	if most := uint64(calls*clients) / 20; fetches > most {
		t.Errorf("%d fetches for %d announcements and %d clients, want less than %d", fetches, calls, clients, most)
	}
	w.leave()
	w.back(base, extra{})
}

func (w *world) total() (sum nodeStats) {
	for _, n := range w.nodes {
		s := n.stats(w.t)
		sum.Fetches += s.Fetches
		sum.Notified += s.Notified
		sum.Resyncs.Lost += s.Resyncs.Lost
	}
	return sum
}

// Very many keys are announced, of which few are watched: the others cost no fetch.
func TestF23ManyKeysFewWatched(t *testing.T) {
	w := newWorld(t, shape{nsqds: 1, nodes: 2})
	const watched = 100
	n := sized(20_000, 100_000)
	for i := range watched {
		k := key(items, fmt.Sprint("some", i*(n/watched)))
		w.db.create(t, items, "", k.ID)
		w.join(fmt.Sprintf("user%d", i), w.anyNode, k)
	}
	w.untilReady()
	w.settle()
	was := w.total()
	conn := w.db.connect(t)
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "update items set rev = rev + 1"); err != nil {
		t.Fatal(err)
	}
	s := w.nodes[0].storm(t, stormRequest{Entity: items, Prefix: "some", IDs: n, Calls: n / 50, PerCall: 50, Workers: 8})
	took := w.settle()
	w.until("both nodes have heard of every key", func() bool { return w.total().Notified-was.Notified >= uint64(2*n) })
	is := w.total()
	fetches := is.Fetches - was.Fetches
	t.Logf("%d keys announced in %v, %d of them watched: %d fetches, %d resyncs, all is well %v after it",
		n, round(s.Took), watched, fetches, is.Resyncs.Lost-was.Resyncs.Lost, round(took))
	if s.Errors > 0 {
		t.Errorf("%d announcements failed", s.Errors)
	}
	if most := watched * (1 + is.Resyncs.Lost - was.Resyncs.Lost); fetches > most {
		t.Errorf("%d fetches for %d keys that are watched, want %d at most", fetches, watched, most)
	}
}
