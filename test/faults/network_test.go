package faults

import (
	"testing"
	"time"

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
	database := newProxy(t, random, sharedPostgres(t).host())
	proxies = append(proxies, database)
	w := newWorld(t, shape{daemons: daemons, change: func(w *world, c *nodeConfig) {
		c.NSQ = addrs[0] + "," + addrs[1]
		c.Database = postgresAddress(database.Addr, w.db.name)
	}})
	return w, proxies
}
