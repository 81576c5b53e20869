package faults

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

// busy starts clients and writers on three nsqds and two nodes, with rows that
// everybody and that only some may see.
func busy(t *testing.T, s shape) (*world, *load) {
	t.Helper()
	s.nsqds = 3
	w := newWorld(t, s)
	keys := append(w.keysOf(items, "item", 40), w.keysOf(batch, "batch", 40)...)
	w.crowd(sized(100, 1000), 4, keys)
	w.untilReady()
	l := w.startLoad(3, 10*time.Millisecond, keys)
	w.sleep(sized(500*time.Millisecond, 3*time.Second))
	return w, l
}

// joined is how often each node joined the bus.
func (w *world) joined() (total uint64) {
	for _, n := range w.nodes {
		total += n.stats(w.t).Resyncs.Joined
	}
	return total
}

// An nsqd is killed, and comes back a second later. What it had acknowledged and
// not passed on to everybody is lost with it.
func TestF01KillNSQD(t *testing.T) {
	w, l, lose := busyWithLoss(t)
	others := w.keysOf(items, "other", 10) // nobody watches these
	for i := range sized(1, 6) {
		before := w.joined()
		// A node goes on publishing to the one that it published to last, which is
		// the first at first.
		n := i % len(w.nsqds)
		frozen := lose(l, n)
		killed := time.Now()
		down := w.startLoad(l.writers, l.pause, others) // what was lost is not written again
		w.sleep(time.Second)
		w.nsqds[n].Start(t)
		began := time.Now()
		want := before + uint64(len(w.nodes)*len(entityTypes))
		w.until("the nodes have joined it again", func() bool { return w.joined() >= want })
		joined := time.Since(began)
		w.settle()
		t.Logf("joined again %v after it was back; what was lost is repaired within %v of its end", round(joined), round(time.Since(killed)))
		w.sleep(time.Second)
		// A node that hears nothing for three seconds gives a connection up.
		if got := w.joined(); got != want && frozen < 2*time.Second {
			t.Errorf("the nodes looked at everything %d times, want once for each node and entity type, %d", got-before, want-before)
		}
		down.end()
		l = w.startLoad(l.writers, l.pause, l.keys)
		w.sleep(500 * time.Millisecond)
		l.end()
		l.report()
		if errs := slices.Concat(down.errors, l.errors); len(errs) > 0 {
			t.Errorf("Notify failed though two nsqds were there: %s", some(errs))
		}
	}
	t.Logf("all is well after %v", round(w.settle()))
}

// busyWithLoss is busy, with a function that kills an nsqd in such a way that
// what the first node has published to it never gets to the second. It returns
// for how long the second heard nothing at all.
func busyWithLoss(t *testing.T) (*world, *load, func(*load, int) time.Duration) {
	t.Helper()
	var proxies []*proxy
	random := randomFor(t)
	w, l := busy(t, shape{change: func(w *world, c *nodeConfig) {
		if len(w.nodes) != 1 {
			return
		}
		var addrs []string
		for _, d := range w.nsqds {
			p := newProxy(t, random, d.Addr)
			proxies, addrs = append(proxies, p), append(addrs, p.Addr)
		}
		c.NSQ = strings.Join(addrs, ",")
	}})
	return w, l, func(l *load, n int) time.Duration {
		t.Helper()
		l.end()
		w.settle()
		began := time.Now()
		for _, p := range proxies {
			p.freeze()
		}
		for _, i := range w.random.Perm(len(l.keys))[:20] {
			if a, err := w.nodes[0].write(t.Context(), writeRequest{Do: update, Key: l.keys[i]}); err != nil || a.Error != "" {
				t.Fatal(err, a.Error)
			}
		}
		lost := w.check.behind(w.truth())
		t.Logf("%d rows are not known where they are watched, such as: %s", len(lost), some(lost[:min(1, len(lost))]))
		if len(lost) == 0 {
			t.Error("nothing was lost: there is nothing to repair")
		}
		w.nsqds[n].Kill(t)
		proxies[n].reset()
		for _, p := range proxies {
			p.thaw()
		}
		return time.Since(began)
	}
}

// One of three nsqds goes for good.
func TestF02LoseNSQD(t *testing.T) {
	onlyFull(t)
	w, l, lose := busyWithLoss(t)
	b := w.addBystander(sick, "bystander", w.nodes[0], w.nodes[0])
	before := b.calm(sized(time.Second, 5*time.Second))
	lose(l, 0)
	began := time.Now()
	w.settle()
	t.Logf("what was lost is repaired after %v, without the nsqd", round(time.Since(began)))
	l = w.startLoad(l.writers, l.pause, l.keys)
	for range sized(15, 100) {
		w.sleep(200 * time.Millisecond)
		for _, n := range w.nodes {
			if !n.stats(t).Ready {
				t.Errorf("node %s is not ready though two nsqds are there", n.config.Name)
			}
		}
	}
	b.undisturbed(before, time.Second)
	b.end()
	l.end()
	t.Logf("all is well after %v", round(w.settle()))
	l.report()
	if len(l.errors) > 0 {
		t.Errorf("Notify failed though two nsqds were there: %s", some(l.errors))
	}
}

// Every nsqd is down when the nodes start; later all are killed, and frozen with
// their connections open.
func TestF03NoNSQDAtAll(t *testing.T) {
	daemons := []*nsqdtest.Daemon{nsqdtest.Start(t), nsqdtest.Start(t)}
	for _, d := range daemons {
		d.Stop(t)
	}
	w := newWorld(t, shape{daemons: daemons})
	end := w.doubt("no nsqd at the start")
	keys := append(w.keysOf(items, "item", 20), w.keysOf(batch, "batch", 20)...)
	w.crowd(sized(50, 1000), 4, keys)
	t.Logf("without any nsqd everybody has a first row after %v", round(w.settle()))
	heal := (*nsqdtest.Daemon).Start
	for _, next := range sized([]string{"killed"}, []string{"killed", "frozen", "killed", "frozen"}) {
		for _, n := range w.nodes {
			w.until("it notices that no nsqd is there", func() bool { return !n.stats(t).Ready })
		}
		l := w.startLoad(2, 10*time.Millisecond, keys)
		w.sleep(sized(time.Second, 10*time.Second))
		l.end()
		l.report()
		if len(l.errors) == 0 {
			t.Error("Notify reported no error without any nsqd")
		}
		if l.slowest > 5*time.Second {
			t.Errorf("Notify took %v, want about half a second", l.slowest)
		}
		// Nobody announces these writes again: the nodes look when the bus is back.
		end()
		for _, d := range daemons {
			heal(d, t)
		}
		t.Logf("all is well %v after the nsqds are back", round(w.settle()))
		w.untilReady()
		end = w.doubt("all nsqds " + next)
		for _, d := range daemons {
			if next == "frozen" {
				d.Freeze(t)
			} else {
				d.Kill(t)
			}
		}
		if heal = (*nsqdtest.Daemon).Start; next == "frozen" {
			heal = (*nsqdtest.Daemon).Thaw
		}
	}
	w.until("the nodes notice", func() bool { return !w.nodes[0].stats(t).Ready && !w.nodes[1].stats(t).Ready })
	end()
}

// Each nsqd in turn is stopped as an operator does, and started again.
func TestF04RollingRestart(t *testing.T) {
	w, l := busy(t, shape{})
	for range sized(1, 3) {
		for _, d := range w.nsqds {
			before := w.joined()
			d.Stop(t)
			w.sleep(sized(300*time.Millisecond, time.Second))
			d.Start(t)
			want := before + uint64(len(w.nodes)*len(entityTypes))
			w.until("the nodes have joined it again", func() bool { return w.joined() >= want })
		}
	}
	l.end()
	t.Logf("all is well after %v", round(w.settle()))
	l.report()
	if len(l.errors) > 0 {
		t.Errorf("Notify failed though two nsqds were there: %s", some(l.errors))
	}
}

// An nsqd freezes, with its connections open, and goes on later.
func TestF07FreezeNSQD(t *testing.T) {
	onlyFull(t)
	w, l := busy(t, shape{})
	// On the node where it is written, a row arrives even where it could not be
	// announced to the others.
	b := w.addBystander(sick, "bystander", w.nodes[0], w.nodes[0])
	b.mayFail = true
	before := b.calm(sized(time.Second, 5*time.Second))
	w.nsqds[0].Freeze(t) // the one that the nodes publish to
	w.sleep(100 * time.Millisecond)
	frozen := l
	l = l.repaired("with one nsqd frozen")
	w.sleep(sized(5*time.Second, 15*time.Second))
	w.nsqds[0].Thaw(t)
	w.sleep(500 * time.Millisecond)
	b.undisturbed(before, 3*time.Second)
	b.end()
	l.end()
	l.announce()
	t.Logf("all is well after %v", round(w.settle()))
	l.report()
	// The default is a second at most. A busy machine adds to it.
	if slowest := max(frozen.slowest, l.slowest); slowest > 5*time.Second {
		t.Errorf("Notify took %v, want about a second at most", slowest)
	}
}
