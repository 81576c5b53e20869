package test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/bridge/nsqbus"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

// startListed runs an nsqd that registers with an nsqlookupd.
func startListed(t *testing.T, lookupd *nsqdtest.Daemon) *nsqdtest.Daemon {
	t.Helper()
	return nsqdtest.StartWith(t, nsqdtest.Options{LookupAddrs: []string{lookupd.Addr}})
}

// Nodes that are told of nsqlookupd alone find nsqd, and so each other.
func TestNodesFindTheirNSQD(t *testing.T) {
	t.Parallel()
	lookupd := nsqdtest.StartLookupd(t)
	startListed(t, lookupd)
	var db database
	config := es.Config{NSQ: nsqbus.Config{LookupAddrs: []string{lookupd.HTTPAddr}}}
	here, there := startNode(t, &db, config), startNode(t, &db, config)
	untilReady(t, here, there)
	c := there.dial(t, "me")
	c.watch("100")
	for range 10 {
		rev := db.write("100")
		here.notify(t, "100")
		c.readUntil(rev)
	}
}

// The nsqd that are given need no nsqlookupd, whatever becomes of it.
func TestGivenNSQDsNeedNoLookupd(t *testing.T) {
	t.Parallel()
	lookupd := nsqdtest.StartLookupd(t)
	lookupd.Stop(t)
	nsqd := nsqdtest.Start(t)
	var db database
	config := es.Config{NSQAddr: nsqd.Addr, NSQ: nsqbus.Config{LookupAddrs: []string{lookupd.HTTPAddr}}}
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
	change()
	lookupd.Start(t) // it names none
	change()
	lookupd.Freeze(t)
	change()
	lookupd.Kill(t)
	change()
	nsqd.Stop(t)
	testkit.Until(t, "the node noticed", func() bool { return !there.Bridge.Ready() })
	nsqd.Start(t)
	untilReady(t, here, there)
	change()
}

// Without a list and without an answer there is no bus; with the first answer
// there is, and it outlives the nsqlookupd.
func TestLookupdIsDownAtTheStartAndLater(t *testing.T) {
	t.Parallel()
	lookupd := nsqdtest.StartLookupd(t)
	lookupd.Stop(t)
	nodes := []*member{joinBus(t, lookupd, lookupInterval), joinBus(t, lookupd, lookupInterval)}
	begin := time.Now()
	err := nodes[0].publish(t, "nobody hears this")
	if took := time.Since(begin); !errors.Is(err, shared.ErrUnavailable) || took > 5*time.Second {
		t.Errorf("with no nsqd found Publish returned %v after %v, want ErrUnavailable within a second", err, took)
	}
	if l := nodes[0].lives(); l != 0 {
		t.Errorf("live %d times without an nsqd", l)
	}

	lookupd.Start(t)
	nsqd := startListed(t, lookupd)
	for i, n := range nodes {
		testkit.Until(t, fmt.Sprintf("node %d is live", i), func() bool { return n.lives() == 1 })
	}
	everybodyHears(t, nodes, "found")

	lookupd.Stop(t)
	everybodyHears(t, nodes, "without lookupd")
	nsqd.Stop(t)
	for i, n := range nodes {
		testkit.Until(t, fmt.Sprintf("node %d noticed", i), func() bool { return n.losses() == 1 })
	}
	// Longer than what would let the nsqd go, if nobody listing it were an answer.
	time.Sleep(15 * lookupInterval)
	nsqd.Start(t)
	for i, n := range nodes {
		testkit.Until(t, fmt.Sprintf("node %d is live again", i), func() bool { return n.lives() == 2 })
	}
	everybodyHears(t, nodes, "back without lookupd")
}

// A second nsqd appears while changes are published. Until every node has found
// it nothing goes there, so nobody misses anything, and nobody has to notice a
// gap. Then it carries everything when the first goes.
func TestANewNSQDLosesNothing(t *testing.T) {
	t.Parallel()
	lookupd := nsqdtest.StartLookupd(t)
	first := startListed(t, lookupd)
	// All must find the second within two intervals, which are as long as the machine needs.
	begin := time.Now()
	probe := joinBus(t, lookupd, 500*time.Millisecond)
	testkit.Until(t, "a bus is live", func() bool { return probe.lives() == 1 })
	interval := max(500*time.Millisecond, time.Since(begin))
	nodes := []*member{joinBus(t, lookupd, interval), joinBus(t, lookupd, interval), joinBus(t, lookupd, interval)}
	for _, n := range nodes {
		testkit.Until(t, "a node is live", func() bool { return n.lives() == 1 })
	}
	stop := make(chan struct{})
	var publishing sync.WaitGroup
	published := make([]int, len(nodes))
	for i, n := range nodes {
		publishing.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
				if err := n.publish(t, fmt.Sprintf("%d.%d", i, published[i])); err != nil {
					t.Errorf("publishing: %v", err)
					return
				}
				published[i]++
			}
		})
	}
	second := startListed(t, lookupd)
	for i, n := range nodes {
		testkit.Until(t, fmt.Sprintf("node %d found the second", i), func() bool { return n.lives() == 2 })
	}
	time.Sleep(4 * interval) // by now it is published to as well as the first
	close(stop)
	publishing.Wait()
	for i, n := range nodes {
		testkit.Until(t, fmt.Sprintf("node %d heard everything", i), func() bool {
			return n.distinct() == published[0]+published[1]+published[2]
		})
	}

	first.Kill(t)
	everybodyHears(t, nodes, "through the second")
	for i, n := range nodes {
		if n.losses() != 0 {
			t.Errorf("node %d lost the bus with one nsqd left", i)
		}
	}
	// A restart is not an end: neither listed nor reached for a moment.
	second.Stop(t)
	second.Start(t)
	for i, n := range nodes {
		testkit.Until(t, fmt.Sprintf("node %d came back to the second", i), func() bool { return n.lives() == 3 })
	}
	everybodyHears(t, nodes, "after a restart")
}

// An nsqd that is gone for good costs nothing any more; when it comes back after
// all it is found like a new one.
func TestAnNSQDThatIsGoneForGoodIsLetGo(t *testing.T) {
	lookupd := nsqdtest.StartLookupd(t)
	startListed(t, lookupd)
	n := joinBus(t, lookupd, lookupInterval)
	testkit.Until(t, "the first is subscribed", func() bool { return n.lives() == 1 })
	everybodyHears(t, []*member{n}, "first")
	before := goroutinesOfTheBus(t)

	second := startListed(t, lookupd)
	for round := range 2 {
		testkit.Until(t, "the second is subscribed", func() bool { return n.lives() == 2+round })
		if with := goroutinesOfTheBus(t); with <= before {
			t.Fatalf("%d goroutines with two nsqd, %d with one: this test counts the wrong ones", with, before)
		}
		second.Kill(t)
		testkit.Until(t, "the goroutines of the second have ended", func() bool { return goroutinesOfTheBus(t) <= before })
		everybodyHears(t, []*member{n}, fmt.Sprint("round ", round))
		second.Start(t)
	}
	if n.losses() != 0 {
		t.Error("lost the bus with one nsqd left")
	}
}

// goroutinesOfTheBus counts those of package nsqbus that do not poll: each nsqd
// has some.
func goroutinesOfTheBus(t *testing.T) (n int) {
	t.Helper()
	buf := make([]byte, 4<<20)
	for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(stack, "nsqbus.(*") && !strings.Contains(stack, ".poll(") {
			n++
		}
	}
	return n
}

// member is a node's bus and what it heard.
type member struct {
	*nsqbus.Bus

	mu     sync.Mutex
	heard  map[string]bool
	live   int
	losing int
}

var _ bus.Listener = (*member)(nil)

func joinBus(t *testing.T, lookupd *nsqdtest.Daemon, interval time.Duration) *member {
	t.Helper()
	b, err := nsqbus.New(nsqbus.Config{
		LookupAddrs: []string{lookupd.HTTPAddr}, LookupInterval: interval, Logger: canary.Logger(canary.Output(t)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := b.Close(ctx); err != nil {
			t.Errorf("closing a bus: %v", err)
		}
	})
	m := &member{Bus: b, heard: make(map[string]bool)}
	if err := b.Subscribe(items, m); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *member) locked(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

func (m *member) Message(b []byte) { m.locked(func() { m.heard[string(b)] = true }) }
func (m *member) Live()            { m.locked(func() { m.live++ }) }
func (m *member) Lost(error)       { m.locked(func() { m.losing++ }) }

func (m *member) lives() (n int)    { m.locked(func() { n = m.live }); return n }
func (m *member) losses() (n int)   { m.locked(func() { n = m.losing }); return n }
func (m *member) distinct() (n int) { m.locked(func() { n = len(m.heard) }); return n }
func (m *member) hears(body string) (is bool) {
	m.locked(func() { is = m.heard[body] })
	return is
}

func (m *member) publish(t *testing.T, body string) error {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return m.Publish(ctx, items, []byte(body))
}

// everybodyHears publishes from each node and waits until each has heard it.
func everybodyHears(t *testing.T, nodes []*member, what string) {
	t.Helper()
	for i, from := range nodes {
		body := fmt.Sprint(what, " from ", i)
		if err := from.publish(t, body); err != nil {
			t.Fatalf("publishing %q: %v", body, err)
		}
		for j, to := range nodes {
			testkit.Until(t, fmt.Sprintf("node %d heard %q", j, body), func() bool { return to.hears(body) })
		}
	}
}
