package faults

import (
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

// An nsqd is cut off, silently: connections stay open and nothing gets through,
// and new ones come to nothing.
func TestPartitionFromNSQD(t *testing.T) {
	onlyFull(t)
	far, cut, heal := farNSQD(t)
	w := newWorld(t, shape{daemons: []*nsqdtest.Daemon{far, nsqdtest.Start(t)}})
	keys := append(w.keysOf(items, "item", 40), w.keysOf(batch, "batch", 40)...)
	w.crowd(sized(60, 500), 4, keys)
	w.untilReady()
	l := w.startLoad(3, 10*time.Millisecond, keys)
	w.sleep(500 * time.Millisecond)
	var slowest time.Duration
	for range sized(1, 3) {
		before := w.joined()
		cut()
		w.sleep(100 * time.Millisecond)
		ended := l
		l = l.repaired("with one nsqd cut off")
		slowest = max(slowest, ended.slowest)
		w.sleep(sized(5*time.Second, 20*time.Second))
		heal()
		want := before + uint64(len(w.nodes)*len(entityTypes))
		t.Logf("joined again %v after it healed", round(w.until("the nodes have joined it again", func() bool { return w.joined() >= want })))
	}
	l.end()
	l.announce()
	t.Logf("all is well after %v", round(w.settle()))
	l.report()
	if slowest = max(slowest, l.slowest); slowest > 5*time.Second {
		t.Errorf("Notify took %v, want about a second at most", slowest)
	}
}

// farNSQD starts an nsqd that can be cut off: in a namespace, or behind a proxy
// that passes nothing on where namespaces are not allowed.
func farNSQD(t *testing.T) (d *nsqdtest.Daemon, cut, heal func()) {
	t.Helper()
	ns, err := newNamespace(t)
	if err == nil {
		must(t, ns.inside(func() { d = nsqdtest.StartWith(t, nsqdtest.Options{Host: ns.there}) }))
		return d, func() { ns.cut(t) }, func() { ns.heal(t) }
	}
	t.Logf("no network namespace (%v): using a proxy that passes nothing on", err)
	d = nsqdtest.Start(t)
	p := newProxy(t, randomFor(t), d.Addr)
	proxied := *d
	proxied.Addr = p.Addr
	return &proxied, p.freeze, p.thaw
}

// A node is cut off from every nsqd, and then from the database: its clients are
// told both times, and the other node's are not.
func TestPartitionOfANode(t *testing.T) {
	onlyFull(t)
	w, l, proxies := cutOff(t)
	for range sized(1, 3) {
		heal := w.doubt("cut off from every nsqd", w.nodes[0])
		for _, p := range proxies[:2] {
			p.freeze()
		}
		w.sleep(sized(6*time.Second, 12*time.Second))
		others := w.nodes[1].stats(t).Stale
		heal()
		for _, p := range proxies[:2] {
			p.thaw()
		}
		l.end()
		t.Logf("all is well %v after it healed", round(w.settle()))
		if others > 0 {
			t.Errorf("%d clients of the other node were told too", others)
		}

		// Everything changes, and this node cannot look.
		proxies[2].freeze()
		for _, k := range l.keys {
			a, err := w.nodes[1].write(t.Context(), writeRequest{Do: update, Key: k})
			if err != nil || a.Error != "" {
				t.Fatal(err, a.Error)
			}
		}
		heal = w.doubt("cut off from the database, and every key has changed", w.nodes[0])
		w.sleep(sized(6*time.Second, 25*time.Second))
		heal()
		proxies[2].thaw()
		t.Logf("all is well %v after the database is there again", round(w.settle()))
		l = w.startLoad(l.writers, l.pause, l.keys)
	}
	l.end()
	l.announce()
	w.settle()
}

// cutOff starts a world whose first node alone has everything behind proxies: two
// nsqds, and the database.
func cutOff(t *testing.T) (*world, *load, []*proxy) {
	t.Helper()
	daemons := []*nsqdtest.Daemon{nsqdtest.Start(t), nsqdtest.Start(t)}
	random := randomFor(t)
	proxies := []*proxy{newProxy(t, random, daemons[0].Addr), newProxy(t, random, daemons[1].Addr), newProxy(t, random, pgtest.Shared(t).Addr())}
	direct := ""
	w := newWorld(t, shape{daemons: daemons, change: func(w *world, c *nodeConfig) {
		if len(w.nodes) == 0 {
			direct = c.NSQ
			c.NSQ = proxies[0].Addr + "," + proxies[1].Addr
			c.Database = w.db.URLAt(proxies[2].Addr)
			return
		}
		c.NSQ, c.Database = direct, w.db.URL()
	}})
	keys := append(w.keysOf(items, "item", 40), w.keysOf(batch, "batch", 40)...)
	w.crowd(sized(60, 500), 4, keys)
	w.untilReady()
	w.settle()
	return w, w.startLoad(3, 10*time.Millisecond, keys), proxies
}

// All connections between the nodes and nsqd are reset, again and again, and
// those between the nodes and the database.
func TestResets(t *testing.T) {
	onlyFull(t)
	w, proxies := behindProxies(t)
	keys := append(w.keysOf(items, "item", 40), w.keysOf(batch, "batch", 40)...)
	w.crowd(sized(60, 500), 4, keys)
	w.untilReady()
	l := w.startLoad(3, 10*time.Millisecond, keys)
	reset := 0
	for range sized(6, 60) {
		w.sleep(500 * time.Millisecond)
		reset += proxies[w.random.IntN(len(proxies))].reset()
	}
	l.end()
	l.announce()
	t.Logf("%d connections were reset; all is well after %v", reset, round(w.settle()))
	l.report()
	if reset == 0 {
		t.Error("no connection was reset")
	}
}

// The way to nsqd and to the database is long, and of changing length.
func TestF34Latency(t *testing.T) {
	onlyFull(t)
	w, proxies := behindProxies(t)
	keys := append(w.keysOf(items, "item", 40), w.keysOf(batch, "batch", 40)...)
	w.crowd(sized(60, 500), 4, keys)
	w.untilReady()
	w.settle()
	for _, p := range proxies {
		p.slow(70*time.Millisecond, 60*time.Millisecond) // about 200 ms there and back
	}
	l := w.startLoad(16, 10*time.Millisecond, keys)
	w.sleep(sized(5*time.Second, 60*time.Second))
	l.end()
	l.announce()
	t.Logf("all is well after %v", round(w.settle()))
	l.report()
	if l.slowest < 100*time.Millisecond {
		t.Errorf("Notify took %v at most: the way was not long", l.slowest)
	}
}

// behindProxies starts a world in which everything that the nodes talk to is
// behind a proxy: two nsqds, and the database.
func behindProxies(t *testing.T) (*world, []*proxy) {
	t.Helper()
	var proxies []*proxy
	var addrs []string
	daemons := []*nsqdtest.Daemon{nsqdtest.Start(t), nsqdtest.Start(t)}
	random := randomFor(t)
	for _, d := range daemons {
		p := newProxy(t, random, d.Addr)
		proxies, addrs = append(proxies, p), append(addrs, p.Addr)
	}
	database := newProxy(t, random, pgtest.Shared(t).Addr())
	proxies = append(proxies, database)
	w := newWorld(t, shape{daemons: daemons, change: func(w *world, c *nodeConfig) {
		c.NSQ = addrs[0] + "," + addrs[1]
		c.Database = w.db.URLAt(database.Addr)
	}})
	return w, proxies
}
