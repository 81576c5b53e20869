package test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nsqio/go-nsq"

	"github.com/entity-sync/entity-sync/bridge/nsqbus"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

func TestAChangeOnAnyNodeReachesTheClientsOfAll(t *testing.T) {
	t.Parallel()
	nsqd := nsqdtest.Start(t)
	var db database
	var nodes []*node
	var clients []*conn
	for i := range 3 {
		n := startNode(t, &db, es.Config{NSQAddr: nsqd.Addr})
		nodes = append(nodes, n)
		c := n.dial(t, fmt.Sprint("user ", i))
		c.watch("100")
		clients = append(clients, c)
	}
	untilReady(t, nodes...)
	for _, n := range nodes {
		rev := db.write("100")
		n.notify(t, "100")
		for i, c := range clients {
			if r := c.readUntil(rev); r.For != fmt.Sprint(mark, "user ", i) {
				t.Errorf("client %d got %+v, fetched for somebody else", i, r)
			}
		}
	}
}

func TestEachNodeFetchesOnceForEqualScopes(t *testing.T) {
	t.Parallel()
	nsqd := nsqdtest.Start(t)
	var db database
	role := func(secret string) string { return strings.SplitN(secret, " ", 2)[0] }
	nodes := []*node{
		startNode(t, &db, es.Config{NSQAddr: nsqd.Addr}, es.WithScope(role)),
		startNode(t, &db, es.Config{NSQAddr: nsqd.Addr}, es.WithScope(role)),
	}
	untilReady(t, nodes...)
	var clients []*conn
	for _, n := range nodes {
		for _, secret := range []string{"guest 1", "guest 2", "boss 1", "boss 2"} {
			c := n.dial(t, secret)
			c.watch("100")
			clients = append(clients, c)
		}
	}
	before := nodes[0].Bridge.Stats().Fetches + nodes[1].Bridge.Stats().Fetches
	rev := db.write("100")
	nodes[0].notify(t, "100")
	for i, c := range clients {
		want := mark + []string{"guest", "guest", "boss", "boss"}[i%4]
		if r := c.readUntil(rev); role(r.For) != want {
			t.Errorf("client %d, a %s, got %+v", i, want, r)
		}
	}
	if got := nodes[0].Bridge.Stats().Fetches + nodes[1].Bridge.Stats().Fetches - before; got != 4 {
		t.Errorf("%d fetches for two roles on two nodes, want 4", got)
	}
}

func TestAPrefixKeepsTwoSystemsApart(t *testing.T) {
	t.Parallel()
	nsqd := nsqdtest.Start(t)
	var db database
	mine := startNode(t, &db, es.Config{NSQAddr: nsqd.Addr, NSQ: nsqbus.Config{Prefix: "mine."}})
	mine2 := startNode(t, &db, es.Config{NSQAddr: nsqd.Addr, NSQ: nsqbus.Config{Prefix: "mine."}})
	theirs := startNode(t, &db, es.Config{NSQAddr: nsqd.Addr})
	untilReady(t, mine, mine2, theirs)
	mine.notify(t, "100")
	testkit.Until(t, "my system heard", func() bool { return mine2.Bridge.Stats().Notified == 1 })
	theirs.notify(t, "100", "101")
	testkit.Until(t, "their system heard", func() bool { return theirs.Bridge.Stats().Notified == 2 })
	if got := mine.Bridge.Stats().Notified; got != 1 {
		t.Errorf("my node heard %d keys, want its own system's 1", got)
	}
}

// nsqd is not there when the node starts: it starts all the same, serves
// snapshots, says so when a notification cannot be published, and finds nsqd when
// it comes.
func TestNSQAbsentAtStart(t *testing.T) {
	t.Parallel()
	nsqd := nsqdtest.Start(t)
	nsqd.Stop(t)
	var db database
	here := startNode(t, &db, es.Config{NSQAddr: nsqd.Addr})
	there := startNode(t, &db, es.Config{NSQAddr: nsqd.Addr})
	if here.Bridge.Ready() {
		t.Error("ready without NSQ")
	}
	db.write("100")
	c := there.dial(t, "me")
	if r := c.watch("100"); r.Rev != 1 {
		t.Errorf("the snapshot without NSQ is %+v, want revision 1", r)
	}
	rev := db.write("100")
	if err := here.Notify(t.Context(), item("100")); !errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("Notify without NSQ returned %v, want ErrUnavailable", err)
	}
	nsqd.Start(t)
	c.readUntil(rev) // nobody announced it a second time: the node looked
	untilReady(t, here, there)
	rev = db.write("100")
	here.notify(t, "100")
	c.readUntil(rev)
}

// nsqd goes away and comes back, as in a restart and as in a crash. What changed
// meanwhile reaches everybody, though nobody could announce it.
func TestNSQGoesAwayAndComesBack(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*nsqdtest.Daemon, testing.TB){
		"stopped": (*nsqdtest.Daemon).Stop,
		"killed":  (*nsqdtest.Daemon).Kill,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nsqd := nsqdtest.Start(t)
			var db database
			nodes := []*node{startNode(t, &db, es.Config{NSQAddr: nsqd.Addr}), startNode(t, &db, es.Config{NSQAddr: nsqd.Addr})}
			untilReady(t, nodes...)
			var clients []*conn
			for _, n := range nodes {
				c := n.dial(t, "me")
				c.watch("100")
				clients = append(clients, c)
			}
			for range 2 {
				end(nsqd, t)
				for i, n := range nodes {
					testkit.Until(t, fmt.Sprintf("node %d noticed", i), func() bool { return !n.Bridge.Ready() })
				}
				rev := db.write("100")
				nsqd.Start(t)
				for _, c := range clients {
					c.readUntil(rev)
				}
				untilReady(t, nodes...)
				rev = db.write("100")
				nodes[0].notify(t, "100")
				for _, c := range clients {
					c.readUntil(rev)
				}
			}
		})
	}
}

// A frozen nsqd keeps its connections and answers nothing.
func TestAFrozenNSQDHoldsUpNoWriter(t *testing.T) {
	nsqd := nsqdtest.Start(t)
	var db database
	n := startNode(t, &db, es.Config{NSQAddr: nsqd.Addr})
	untilReady(t, n)
	c := n.dial(t, "me")
	c.watch("100")
	n.notify(t, "100")
	c.read()

	nsqd.Freeze(t)
	for range 3 {
		rev := db.write("100")
		begin := time.Now()
		err := n.Notify(t.Context(), item("100"))
		if took := time.Since(begin); err == nil || took > 3*time.Second {
			t.Errorf("Notify returned %v after %v, want an error about 1s after the call", err, took)
		}
		c.readUntil(rev) // this node's own clients are served all the same
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if err := n.Notify(ctx, item("100")); err == nil || time.Since(begin) > 2*time.Second {
		t.Errorf("with a deadline of 50ms Notify returned %v after %v", err, time.Since(begin))
	}
	testkit.Until(t, "the node noticed", func() bool { return !n.Bridge.Ready() })
	nsqd.Thaw(t)
	untilReady(t, n)
	rev := db.write("100")
	n.notify(t, "100")
	c.readUntil(rev)
}

// Of two nsqd one goes away, for good as far as anybody knows: writers notice
// nothing, and what the other carries arrives. When it is back all is well.
func TestOneOfTwoNSQDsGoesAway(t *testing.T) {
	t.Parallel()
	one, two := nsqdtest.Start(t), nsqdtest.Start(t)
	var db database
	config := es.Config{NSQAddr: one.Addr + ", " + two.Addr}
	here, there := startNode(t, &db, config), startNode(t, &db, config)
	untilReady(t, here, there)
	c := there.dial(t, "me")
	c.watch("100")
	change := func() {
		t.Helper()
		rev := db.write("100")
		here.notify(t, "100")
		c.readUntil(rev)
	}
	// Ready says that one of them is subscribed. A change shows the other.
	for range 10 {
		change()
	}
	for _, end := range []func(*nsqdtest.Daemon, testing.TB){(*nsqdtest.Daemon).Kill, (*nsqdtest.Daemon).Stop} {
		for _, nsqd := range []*nsqdtest.Daemon{one, two} {
			end(nsqd, t)
			for range 10 {
				change()
			}
			if !there.Bridge.Ready() {
				t.Error("not ready though one nsqd is there")
			}
			nsqd.Start(t)
			before := there.Bridge.Stats().Resyncs.Joined
			testkit.Until(t, "the node came back to it", func() bool { return there.Bridge.Stats().Resyncs.Joined > before })
			change()
		}
	}
}

// More messages than nsqd has under way to one connection: they are acknowledged.
func TestThousandsOfNotificationsOnOneConnection(t *testing.T) {
	for name, o := range map[string]nsqdtest.Options{"by default": {}, "with a low --max-rdy-count": {MaxReadyCount: 50}} {
		t.Run(name, func(t *testing.T) {
			nsqd := nsqdtest.StartWith(t, o)
			var db database
			here, there := startNode(t, &db, es.Config{NSQAddr: nsqd.Addr}), startNode(t, &db, es.Config{NSQAddr: nsqd.Addr})
			untilReady(t, here, there)
			messages := min(5000, 10*cmp.Or(o.MaxReadyCount, 2500))
			for i := range messages { // one after another, so none goes together with another
				here.notify(t, fmt.Sprint(i))
			}
			testkit.Until(t, "all were heard", func() bool { return there.Bridge.Stats().Notified == uint64(messages) })
			if got := there.Bridge.Stats().Resyncs; got.Joined != 1 || got.Lost != 0 {
				t.Errorf("resyncs %+v: the connection did not hold", got)
			}
		})
	}
}

// A publisher's connection that is idle for longer than nsqd waits for a
// heartbeat is still there.
func TestAnIdlePublisherKeepsItsConnection(t *testing.T) {
	nsqd := nsqdtest.Start(t)
	var db database
	n := startNode(t, &db, es.Config{NSQAddr: nsqd.Addr})
	untilReady(t, n)
	c := n.dial(t, "me")
	c.watch("100")
	n.notify(t, "100")
	c.read()
	time.Sleep(3500 * time.Millisecond) // nsqd's patience is two heartbeats of 1s
	rev := db.write("100")
	n.notify(t, "100")
	c.readUntil(rev)
	if got := n.Bridge.Stats().Resyncs.Joined; got != 1 {
		t.Errorf("joined the bus %d times, want once", got)
	}
}

// nsqd holds a lone message back for up to 250 ms unless it is told not to. The
// median of many shows which: of how much later a row comes on the other node than on
// this one, which does not wait for nsqd and is as slow as the machine.
func TestALoneNotificationIsNotHeldBack(t *testing.T) {
	nsqd := nsqdtest.Start(t)
	var db database
	here, there := startNode(t, &db, es.Config{NSQAddr: nsqd.Addr}), startNode(t, &db, es.Config{NSQAddr: nsqd.Addr})
	untilReady(t, here, there)
	near, far := here.dial(t, "me"), there.dial(t, "me")
	near.watch("100")
	far.watch("100")
	var late []time.Duration
	for range 31 {
		rev := db.write("100")
		here.notify(t, "100")
		near.readUntil(rev)
		begin := time.Now()
		far.readUntil(rev)
		late = append(late, time.Since(begin))
	}
	slices.Sort(late)
	t.Logf("on the other node later than on the one that announces: median %v, worst %v", late[len(late)/2], late[len(late)-1])
	if median := late[len(late)/2]; median > 120*time.Millisecond {
		t.Errorf("the median is %v: something holds notifications back", median)
	}
}

// Other programs may publish to the topic: a bare key is understood, and
// rubbish is ignored.
func TestWhatOtherProgramsPublish(t *testing.T) {
	t.Parallel()
	nsqd := nsqdtest.Start(t)
	var db database
	n := startNode(t, &db, es.Config{NSQAddr: nsqd.Addr})
	untilReady(t, n)
	c := n.dial(t, "me")
	c.watch("100")
	p, err := nsq.NewProducer(nsqd.Addr, nsq.NewConfig())
	if err != nil {
		t.Fatal(err)
	}
	p.SetLoggerLevel(nsq.LogLevelMax)
	defer p.Stop()
	bad := []string{"rubbish", `{"entity":"users","id":"100"}`, "\x00\xff", `{"entity":"items"}`}
	for _, body := range bad {
		if err := p.Publish("items", []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	rev := db.write("100")
	if err := p.Publish("items", []byte(`{"entity":"items","id":"100"}`)); err != nil {
		t.Fatal(err)
	}
	c.readUntil(rev)
	testkit.Until(t, "all were counted", func() bool { return n.Bridge.Stats().BadMessages == uint64(len(bad)) })
}

// One node's handler fails, panics and hangs; the other nodes and entity types
// go on, and it recovers by itself.
func TestABrokenHandlerHarmsNobodyElse(t *testing.T) {
	t.Parallel()
	nsqd := nsqdtest.Start(t)
	var db database
	sick, well := startNode(t, &db, es.Config{NSQAddr: nsqd.Addr}), startNode(t, &db, es.Config{NSQAddr: nsqd.Addr})
	var broken atomic.Bool
	err := es.Register(sick.EntitySync, "users", func(context.Context, shared.EntityKey, string) (string, error) {
		if broken.Load() {
			panic("broken")
		}
		return "fine", nil
	}, es.WithRetry(time.Millisecond, 50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	untilReady(t, sick, well)
	a, b := sick.dial(t, "me"), well.dial(t, "me")
	a.watch("100")
	b.watch("100")
	broken.Store(true)
	a.Send(`{"action":"subscribe","body":{"entity":"users","id":"1","snapshot":true}}`)
	testkit.Until(t, "it panicked a few times", func() bool { return sick.Bridge.Stats().FetchesFailed > 3 })
	rev := db.write("100")
	well.notify(t, "100")
	a.readUntil(rev)
	b.readUntil(rev)
	broken.Store(false)
	if _, m, err := a.ReadMessage(); err != nil || string(m) != `"fine"` {
		t.Errorf("after it recovered the client got %q, %v", m, err)
	}
}

func TestManyChangesFromManyNodesEndRight(t *testing.T) {
	t.Parallel()
	nsqd := nsqdtest.Start(t)
	var db database
	nodes := make([]*node, 3)
	for i := range nodes {
		nodes[i] = startNode(t, &db, es.Config{NSQAddr: nsqd.Addr})
	}
	untilReady(t, nodes...)
	const keys, writes = 5, 300
	var clients []*conn
	for _, n := range nodes {
		c := n.dial(t, "me")
		for k := range keys {
			c.watch(fmt.Sprint(k))
		}
		clients = append(clients, c)
	}
	errs := make(chan error, len(nodes))
	for i, n := range nodes {
		go func() {
			var err error
			for w := range writes {
				id := fmt.Sprint((w + i) % keys)
				db.write(id)
				err = errors.Join(err, n.Notify(context.Background(), item(id)))
			}
			errs <- err
		}()
	}
	for range nodes {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range clients {
		last := map[string]int{}
		for done := 0; done < keys; {
			r := c.read()
			if r.Rev < last[r.ID] {
				t.Fatalf("client %d went back from %d to %d", i, last[r.ID], r.Rev)
			}
			if last[r.ID] < r.Rev && r.Rev == len(nodes)*writes/keys {
				done++
			}
			last[r.ID] = r.Rev
		}
	}
}

// The registration of a name that cannot be a topic fails at once, not at the
// first change.
func TestBadNamesFailAtRegistration(t *testing.T) {
	t.Parallel()
	nsqd := nsqdtest.Start(t)
	var db database
	n := startNode(t, &db, es.Config{NSQAddr: nsqd.Addr, NSQ: nsqbus.Config{Prefix: strings.Repeat("p", 50)}})
	for _, name := range []shared.EntityType{"", "a b", "x\n", "#ephemeral", "fifteen_letters"} {
		if err := es.Register(n.EntitySync, name, db.fetch); !errors.Is(err, shared.ErrBadEntity) {
			t.Errorf("registering %q returned %v, want ErrBadEntity", name, err)
		}
	}
	if err := n.Notify(t.Context(), shared.EntityKey{Entity: "nobody registered this", ID: "1"}); !errors.Is(err, shared.ErrUnknownEntity) {
		t.Errorf("notifying of an unregistered entity returned %v, want ErrUnknownEntity", err)
	}
}
