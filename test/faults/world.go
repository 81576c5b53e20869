package faults

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

const (
	// patience is how long a test waits for what must happen, on a machine that
	// may be busy with other things.
	patience = 60 * time.Second

	// promptly is what a system at rest needs at most, and what is asked for
	// where there is nothing to be slow. The tests print how long it took.
	promptly = 60 * time.Second
)

// shape says what a world is made of. Zero means one nsqd and two nodes.
type shape struct {
	nsqds, nodes int
	node         nodeConfig                // what the nodes have in common
	change       func(*world, *nodeConfig) // a last word on each node's, may be nil
	daemons      []*nsqdtest.Daemon        // in place of those that nsqds asks for
}

// world is the system under test: nsqds, a database, nodes, and clients.
type world struct {
	t      testing.TB
	random *rand.Rand
	db     *database
	check  *checker
	nsqds  []*nsqdtest.Daemon
	nodes  []*node

	shown int           // breaches of which the test was told
	usual time.Duration // how long the bystanders' yardstick took in a calm time

	mu      sync.Mutex // guards what follows
	clients []*client
	joins   int        // clients so far that took turns
	choice  *rand.Rand // of nodes to connect to
}

// newWorld starts one until the test ends, and then looks for what must never
// happen, whatever the test was about.
func newWorld(t testing.TB, s shape) *world {
	t.Helper()
	random := randomFor(t)
	w := &world{t: t, random: random, choice: fork(random), check: newChecker(), db: newDatabase(t)}
	w.nsqds = s.daemons
	if w.nsqds == nil {
		for range max(s.nsqds, 1) {
			w.nsqds = append(w.nsqds, nsqdtest.Start(t))
		}
	}
	c := s.node
	var addrs []string
	for _, d := range w.nsqds {
		addrs = append(addrs, d.Addr)
	}
	c.NSQ = strings.Join(addrs, ",")
	if c.Database == "" {
		c.Database = w.db.URL()
	}
	if c.Pool == 0 {
		c.Pool = 8
	}
	if s.nodes == 0 {
		s.nodes = 2
	}
	for i := range s.nodes {
		c.Name, c.Addr = fmt.Sprintf("%s-node%d", w.db.Name, i), "127.0.0.1:0"
		if s.change != nil {
			s.change(w, &c)
		}
		n := startNode(t, c)
		n.wrote = w.check.wrote
		w.nodes = append(w.nodes, n)
		t.Cleanup(func() { w.end(n) })
	}
	t.Cleanup(w.leave)
	t.Cleanup(w.report)
	t.Cleanup(w.listen())
	return w
}

// listen looks now and then for clients that are behind and were not told, until
// the function that it returns is called.
func (w *world) listen() (end func()) {
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			case <-time.After(500 * time.Millisecond):
				w.check.listen()
			}
		}
	}()
	return func() {
		close(stop)
		<-ended
	}
}

// end stops a node and looks at what it has left.
func (w *world) end(n *node) {
	w.t.Helper()
	if err := n.died(); err != nil {
		w.t.Errorf("INV8: node %s: %v", n.config.Name, err)
	} else if n.running() {
		if err := n.stop(w.t); err != nil {
			w.t.Errorf("INV8: node %s, told to stop: %v", n.config.Name, err)
		}
	}
	text, err := os.ReadFile(n.log)
	if err != nil {
		w.t.Fatal(err)
	}
	if found := searchLog(string(text)); len(found) > 0 {
		w.t.Errorf("INV8: in the output of node %s:\n%s", n.config.Name, some(found))
	}
	if w.t.Failed() {
		lines := strings.Split(string(text), "\n")
		w.t.Logf("the last of the output of node %s:\n%s", n.config.Name, strings.Join(lines[max(0, len(lines)-30):], "\n"))
	}
}

// untilReady waits until all nodes that run are on the bus.
func (w *world) untilReady() {
	w.t.Helper()
	for _, n := range w.nodes {
		if n.running() {
			w.until(n.config.Name+" is on the bus", func() bool { return n.stats(w.t).Ready })
		}
	}
}

// until waits for what must happen, and returns how long it took.
func (w *world) until(what string, holds func() bool) time.Duration {
	w.t.Helper()
	begin := time.Now()
	for !holds() {
		if time.Since(begin) > patience {
			w.t.Fatalf("waited %v in vain until %s", patience, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return time.Since(begin)
}

// anyNode returns the address of a node that runs, for a client to connect to.
func (w *world) anyNode() string {
	if n := w.someNode(); n != nil {
		return n.Addr
	}
	return w.nodes[0].Addr // there is none: try and fail
}

func (w *world) someNode() *node {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, i := range w.choice.Perm(len(w.nodes)) {
		if n := w.nodes[i]; n.running() {
			return n
		}
	}
	return nil
}

// at returns where a client connects that stays with one node.
func (w *world) at(n *node) func() string { return func() string { return n.Addr } }

// join adds a client that watches keys.
func (w *world) join(user string, dial func() string, keys ...shared.EntityKey) *client {
	return w.joinWith(user, options{dial: dial}, keys)
}

// joinWith is join; clients that are not told which wire to speak take turns.
func (w *world) joinWith(user string, o options, keys []shared.EntityKey) *client {
	w.mu.Lock()
	defer w.mu.Unlock()
	if o.wire == anyWire {
		o.wire = []language{classicWire, v2Wire}[w.joins%2]
		w.joins++
	}
	c := startClient(w.check, fork(w.choice), user, o, keys)
	w.clients = append(w.clients, c)
	return c
}

// crowd adds n clients of different users, each watching some of the keys.
func (w *world) crowd(n, each int, keys []shared.EntityKey) {
	w.crowdWith(n, each, keys, options{dial: w.anyNode})
}

func (w *world) crowdWith(n, each int, keys []shared.EntityKey, o options) {
	for i := range n {
		var mine []shared.EntityKey
		for _, j := range w.random.Perm(len(keys))[:min(each, len(keys))] {
			mine = append(mine, keys[j])
		}
		w.joinWith(fmt.Sprintf("user%d", i), o, mine)
	}
}

// leave ends all clients.
func (w *world) leave() {
	w.mu.Lock()
	clients := w.clients
	w.clients = nil
	w.mu.Unlock()
	for _, c := range clients {
		c.stop()
	}
	for _, c := range clients {
		c.leave()
	}
}

// move says whether a row is being written all the time, so that nobody can be
// up to date with it.
func (w *world) move(k shared.EntityKey, moves bool) { w.check.ignore(k, moves) }

// truth is what all clients are to end up with.
func (w *world) truth() map[shared.EntityKey]row {
	w.t.Helper()
	return w.db.rows(w.t)
}

// settle checks that everybody ends up with the newest rows, and that nothing
// went wrong on the way. It returns how long that took.
func (w *world) settle() time.Duration {
	w.t.Helper()
	truth := w.truth()
	begin := time.Now()
	var behind []string
	for {
		if behind = w.check.behind(truth); len(behind) == 0 {
			break
		}
		if time.Since(begin) > promptly {
			w.t.Errorf("INV1: after %v:\n%s", promptly, some(behind))
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	took := time.Since(begin)
	w.report()
	for _, n := range w.nodes {
		if err := n.died(); err != nil {
			w.t.Fatalf("INV8: node %s: %v", n.config.Name, err)
		}
		if n.running() {
			if s := n.stats(w.t); s.Overlaps > 0 {
				w.t.Errorf("node %s began %d fetches of a view while another one of it was under way", n.config.Name, s.Overlaps)
			}
		}
	}
	return took
}

// report fails the test for breaches that it was not told of yet.
func (w *world) report() {
	w.t.Helper()
	found := w.check.found()
	if len(found) > w.shown {
		w.t.Errorf("promises broken:\n%s", some(slices.Clone(found[w.shown:])))
	}
	w.shown = len(found)
}

// keysOf makes rows and returns their keys: a part of them belongs to some of
// the users, and the others are not to see those.
func (w *world) keysOf(entity shared.EntityType, prefix string, n int) (keys []shared.EntityKey) {
	w.t.Helper()
	owned := make(map[string][]string)
	for i := range n {
		id, owner := fmt.Sprintf("%s%d", prefix, i), ""
		switch i % 8 {
		case 3:
			owner = fmt.Sprintf("user%d", w.random.IntN(20))
		case 7:
			owner = fmt.Sprintf("user%d", w.random.IntN(20))
			id += "-secret"
		}
		owned[owner] = append(owned[owner], id)
		keys = append(keys, key(entity, id))
	}
	for owner, ids := range owned {
		w.db.create(w.t, entity, owner, ids...)
	}
	return keys
}

// keysNamed returns the keys of rows that are there.
func keysNamed(entity shared.EntityType, ids []string) (keys []shared.EntityKey) {
	for _, id := range ids {
		keys = append(keys, key(entity, id))
	}
	return keys
}

// sleep lets the system run for a while.
func (w *world) sleep(d time.Duration) {
	select {
	case <-time.After(d):
	case <-w.t.Context().Done():
	}
}

// warm makes every node use all that it keeps from its first use on, such as its
// connection for announcing, so that its figures can be compared later.
func (w *world) warm() {
	w.t.Helper()
	w.untilReady()
	for _, n := range w.nodes {
		for _, entity := range entityTypes {
			a, err := n.write(w.t.Context(), writeRequest{Do: announce, Key: key(entity, "nobody's")})
			if err != nil || a.Error != "" {
				w.t.Fatalf("a first announcement: %v %s", err, a.Error)
			}
		}
	}
}

// baseline is what a node uses while nobody is connected.
type baseline map[*node]nodeStats

// measure notes what the nodes use now: their least within a while, because a
// moment may have more.
func (w *world) measure() baseline {
	w.t.Helper()
	b := make(baseline)
	for _, n := range w.nodes {
		for range 5 {
			n.http.CloseIdleConnections()
			w.sleep(100 * time.Millisecond)
			s := n.stats(w.t)
			if least, any := b[n]; any {
				s.Goroutines = min(s.Goroutines, least.Goroutines)
				s.Files = min(s.Files, least.Files)
				s.Heap = min(s.Heap, least.Heap)
			}
			b[n] = s
		}
	}
	return b
}

// extra is what a node may use more than before, for a reason.
type extra struct{ goroutines, files int }

// kept is what a node keeps once it has had clients: goroutines for the next fetch
// and the next write, and one, with a file, that waits for parked clients.
func kept() extra { return extra{goroutines: 4 + runtime.GOMAXPROCS(0) + 1, files: 1} }

// back checks INV6: nobody is connected any more, and the nodes use no more than
// they did.
func (w *world) back(b baseline, more extra) {
	w.t.Helper()
	more.goroutines += kept().goroutines
	more.files += kept().files
	for n, was := range b {
		allowed := was.Heap + max(was.Heap/50, 1<<20)
		begin := time.Now()
		var is nodeStats
		for {
			n.http.CloseIdleConnections()
			w.sleep(100 * time.Millisecond)
			is = n.stats(w.t)
			gone := is.Clients == 0 && is.Subscriptions == 0 && is.Views == 0 && is.FetchesQueued == 0
			if gone && is.Goroutines <= was.Goroutines+more.goroutines && is.Files <= was.Files+more.files && is.Heap <= allowed {
				break
			}
			if time.Since(begin) > promptly {
				w.t.Errorf("INV6: %v after the clients left node %s has %+v, and had %+v", promptly, n.config.Name, is, was)
				all, err := ask[string](w.t.Context(), n, "/stacks", struct{}{})
				w.t.Logf("its goroutines (%v):\n%s", err, all)
				break
			}
		}
		w.t.Logf("node %s: goroutines %d -> %d, files %d -> %d, heap %d KiB -> %d KiB, %v after the clients left",
			n.config.Name, was.Goroutines, is.Goroutines, was.Files, is.Files, was.Heap>>10, is.Heap>>10, round(time.Since(begin)))
	}
}

func round(d time.Duration) time.Duration {
	if d > time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(100 * time.Microsecond)
}
