package faults

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sys/unix"

	"github.com/entity-sync/entity-sync/shared"
)

// Some clients do not read, while what they watch changes all the time. The first
// node has patience with them, the second has not.
func TestF17SlowReaders(t *testing.T) {
	timeout := sized(time.Second, 10*time.Second)
	w := newWorld(t, shape{nsqds: 1, nodes: 2, change: func(w *world, c *nodeConfig) {
		c.PingInterval = 10 * patience // nor do they answer
		c.WriteTimeout = 10 * patience
		if len(w.nodes) == 1 {
			c.WriteTimeout = timeout
		}
	}})
	hot := key(items, "hot0-wide")
	w.db.create(t, items, "", hot.ID)
	b := w.addBystander(batch, "bystander", w.nodes[0], w.nodes[0])
	w.warm()
	before := b.calm(sized(time.Second, 5*time.Second))
	base := w.nodes[0].stats(t)

	slow, writes := sized(20, 200), sized(200, 1000)
	conns := make(map[*node][]*websocket.Conn)
	for _, n := range w.nodes {
		for i := range slow {
			conn, err := dialAs(t.Context(), slowDialer(), n.Addr, fmt.Sprintf("slow%d.0", i), hot)
			must(t, err)
			defer conn.Close()
			conns[n] = append(conns[n], conn)
		}
	}
	good := w.join("good", w.at(w.nodes[0]), hot)
	w.settle()
	var last int64
	for range writes {
		a, err := w.nodes[0].write(t.Context(), writeRequest{Do: update, Key: hot})
		if err != nil || a.Error != "" {
			t.Fatal(err, a.Error)
		}
		last = a.Rev
		w.sleep(5 * time.Millisecond)
	}
	written := time.Now()
	w.settle()
	is := w.nodes[0].stats(t)
	t.Logf("%d writes of a row of %d KiB, which %d clients do not read: the heap is %d KiB, and was %d KiB before",
		writes, wide>>10, slow, is.Heap>>10, base.Heap>>10)
	// Each may hold the newest row and one that is being written, besides what
	// the kernel holds; and each has a fetch of its own.
	if most := base.Heap + uint64(slow)*4*wide + 8<<20; is.Heap > most {
		t.Errorf("INV6: the heap is %d bytes, want %d at most", is.Heap, most)
	}
	if n, r := w.check.rows(good.watcher, hot); r.Rev != last {
		t.Errorf("a client that reads got %d rows, the last of revision %d, want %d", n, r.Rev, last)
	}
	b.undisturbed(before, time.Second)
	b.end()

	// Those who read now get what the kernel held, and then the newest row.
	most := 0
	for i, conn := range conns[w.nodes[0]] {
		n, err := readUntil(conn, last)
		if err != nil {
			t.Fatalf("slow client %d, after %d rows: %v", i, n, err)
		}
		most = max(most, n)
	}
	t.Logf("of %d rows those who did not read got %d at most", writes, most)
	if most > writes/4 {
		t.Errorf("a client that did not read got %d of %d rows, want the newest, and the few that the kernel held", most, writes)
	}
	// Where there is no patience, those who still read nothing are given up.
	w.until("those who read nothing are given up", func() bool { return w.nodes[1].stats(t).Clients == 0 })
	t.Logf("%d who read nothing were given up within %v of the last write, with a write timeout of %v",
		slow, round(time.Since(written)), timeout)
}

// readUntil reads rows until one of the given revision, and returns how many.
func readUntil(conn *websocket.Conn, rev int64) (n int, err error) {
	for {
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return n, err
		}
		var r row
		if err := conn.ReadJSON(&r); err != nil {
			return n, err
		}
		n++
		if r.Rev >= rev {
			return n, nil
		}
	}
}

// Clients vanish without a word: the node notices that they do not answer.
func TestF18HalfOpenClients(t *testing.T) {
	onlyFull(t)
	ns, err := newNamespace(t)
	host := "127.0.0.1"
	if err == nil {
		host = ns.here
	}
	w := newWorld(t, shape{nsqds: 1, nodes: 1, change: func(_ *world, c *nodeConfig) {
		c.Addr = host + ":0"
		c.PingInterval, c.PongWait, c.WriteTimeout = time.Second, time.Second, 2*time.Second
	}})
	node := w.nodes[0]
	far, cut, heal := options{dial: w.at(node)}, func() {}, func() {}
	if err == nil {
		far.dialer = &websocket.Dialer{NetDialContext: ns.dial}
		cut, heal = func() { ns.cut(t) }, func() { ns.heal(t) }
	} else {
		t.Logf("no network namespace (%v): using a proxy that passes nothing on", err)
		p := newProxy(t, w.random, node.Addr)
		far.dial, cut, heal = func() string { return p.Addr }, p.freeze, p.thaw
	}
	n := sized(200, 5000)
	keys := w.keysOf(items, "item", 40)
	w.warm()
	vanish := func(id string) {
		b := w.addBystander(batch, id, node, node)
		before := b.calm(sized(500*time.Millisecond, 3*time.Second))
		w.crowdWith(n, 4, keys, far)
		w.settle()
		b.take()
		cut()
		began := time.Now()
		l := w.startLoad(1, 10*time.Millisecond, keys) // so that some are in the middle of being written to
		w.until("the node has given up all who are not there", func() bool { return node.stats(t).Clients == 1 })
		took := time.Since(began)
		l.end()
		t.Logf("%d clients vanished, and were given up within %v, with a ping each %v and %v to answer",
			n, round(took), node.config.PingInterval, node.config.PongWait)
		b.undisturbed(before, time.Second)
		b.end()
		w.leave()
		heal()
	}
	vanish("first") // once for all that is made at first use and kept
	base := w.measure()
	vanish("second")
	w.back(base, extra{})
}

// A node is killed with all its clients. They come back to the other.
func TestF20KillNode(t *testing.T) {
	w, l := busy(t, shape{})
	b := w.addBystander(sick, "bystander", w.nodes[1], w.nodes[1])
	before := b.calm(sized(500*time.Millisecond, 5*time.Second))
	for range sized(1, 5) {
		had := w.nodes[0].stats(t).Clients
		w.nodes[0].kill(t)
		killed := time.Now()
		w.until("all clients are at the survivor", func() bool { return w.nodes[1].stats(t).Clients == len(w.clients) })
		t.Logf("a node with %d clients was killed; the survivor has all %d after %v, and a heap of %d KiB",
			had, len(w.clients), round(time.Since(killed)), w.nodes[1].stats(t).Heap>>10)
		if had == 0 {
			t.Error("the node had no clients")
		}
		l.end()
		l.announce()
		w.settle()
		t.Logf("all is well %v after it was killed", round(time.Since(killed)))
		w.nodes[0].start(t)
		w.untilReady()
		l = w.startLoad(3, 10*time.Millisecond, l.keys)
		// Half of them move back, or there is nobody to be killed the next time.
		for _, c := range w.clients[:len(w.clients)/2] {
			c.hangUp()
		}
		w.sleep(sized(500*time.Millisecond, 3*time.Second))
	}
	// It shares the machine with everybody's return.
	b.undisturbed(before, 2*time.Second)
	b.end()
	l.end()
	l.announce()
	w.settle()
	l.report()
}

// Clients come and go in every way there is. Nothing is left of them.
func TestF30Churn(t *testing.T) {
	w := newWorld(t, shape{nsqds: 1, nodes: 1, node: nodeConfig{
		PingInterval: time.Second, PongWait: time.Second, WriteTimeout: 2 * time.Second,
	}})
	keys := append(w.keysOf(items, "item", 20), w.keysOf(batch, "batch", 20)...)
	w.warm()
	l := w.startLoad(1, 20*time.Millisecond, keys)
	w.churn(sized(500, 3000), keys) // once for all that is made at first use and kept
	l.end()
	base := w.measure()
	l = w.startLoad(1, 20*time.Millisecond, keys)
	begin := time.Now()
	n := sized(3000, 100_000)
	left := w.churn(n, keys)
	took := time.Since(begin)
	l.end()
	t.Logf("%d connections in %v (%.0f/s): %s", n, round(took), float64(n)/took.Seconds(), left)
	w.settle()
	w.back(base, extra{})
}

// The ways in which a client leaves.
const (
	closes   = iota // says goodbye
	resets          // ends with a reset
	hangsUp         // ends the connection without a word
	vanishes        // reads nothing and answers nothing, until it is given up
	ways
)

// churn makes n connections that subscribe and then end in different ways, a few
// at a time, and returns how many ended how.
func (w *world) churn(n int, keys []shared.EntityKey) string {
	w.t.Helper()
	var next, rows atomic.Int64
	var left [ways]atomic.Int64
	var workers sync.WaitGroup
	var vanished sync.WaitGroup
	for range 16 {
		random := fork(w.random)
		workers.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				way := random.IntN(ways - 1)
				if random.IntN(20) == 0 {
					way = vanishes
				}
				left[way].Add(1)
				conn, err := w.visit(random, fmt.Sprintf("user%d.%d", random.IntN(20), i), keys, &rows)
				if err != nil {
					w.check.breach("INV8: connection %d: %v", i, err)
					continue
				}
				if way == vanishes {
					vanished.Go(func() { w.vanish(conn) })
					continue
				}
				depart(conn, way)
			}
		})
	}
	workers.Wait()
	vanished.Wait()
	return fmt.Sprintf("%d said goodbye, %d reset, %d hung up, %d vanished; %d rows read",
		left[closes].Load(), left[resets].Load(), left[hangsUp].Load(), left[vanishes].Load(), rows.Load())
}

// visit connects, subscribes to some keys, and reads a row or not.
func (w *world) visit(random *rand.Rand, identity string, keys []shared.EntityKey, rows *atomic.Int64) (*websocket.Conn, error) {
	var mine []shared.EntityKey
	for range 1 + random.IntN(4) {
		mine = append(mine, keys[random.IntN(len(keys)/8)*8]) // one that everybody may see
	}
	conn, err := dialAs(w.t.Context(), &websocket.Dialer{HandshakeTimeout: patience}, w.nodes[0].Addr, identity, mine...)
	if err != nil {
		return nil, err
	}
	if random.IntN(2) == 0 {
		return conn, nil
	}
	var r row
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if err := conn.ReadJSON(&r); err != nil {
		return nil, fmt.Errorf("reading a first row: %w", err)
	}
	if r.For != identity {
		return nil, fmt.Errorf("INV3: is %s and got a row for %s", identity, r.For)
	}
	rows.Add(1)
	return conn, nil
}

func depart(conn *websocket.Conn, way int) {
	switch way {
	case closes:
		goodbye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
		_ = conn.WriteControl(websocket.CloseMessage, goodbye, time.Now().Add(time.Second))
	case resets:
		_ = conn.NetConn().(*net.TCPConn).SetLinger(0)
	}
	conn.Close()
}

// vanish keeps the connection open and does nothing until the node has ended it.
func (w *world) vanish(conn *websocket.Conn) {
	defer conn.Close()
	gone := func() bool { return isGone(conn) }
	for end := time.Now().Add(patience); !gone(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			w.check.breach("INV6: a client that did not answer was still connected after %v", patience)
			return
		}
	}
}

// isGone reports whether the node has ended a connection, without reading it.
func isGone(conn *websocket.Conn) bool {
	raw, err := conn.NetConn().(*net.TCPConn).SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		const established = 1
		gone = err != nil || info.State != established
	})
	return gone || err != nil
}

// A node cannot open any more files. Those who are connected live, and when it
// can again everybody gets in.
func TestF31NoMoreFiles(t *testing.T) {
	onlyFull(t)
	w := newWorld(t, shape{nsqds: 1, nodes: 2})
	node := w.nodes[0]
	keys := append(w.keysOf(items, "item", 20), w.keysOf(batch, "batch", 20)...)
	for i := range 40 {
		w.join(fmt.Sprintf("user%d", i), w.at(node), keys[i], keys[(i+1)%40])
	}
	w.warm()
	w.settle()
	ended := func() (n int) {
		for _, c := range w.clients[:40] {
			n += c.ends()
		}
		return n
	}
	b := w.addBystander(items, "bystander", w.nodes[1], node)
	before := b.calm(sized(time.Second, 5*time.Second))
	endedBefore := ended()

	pid := node.process.Pid()
	var normal unix.Rlimit
	must(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &normal))
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	must(t, err)
	must(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(len(files)), Max: normal.Max}, nil))
	var late []*client
	for i := range 20 {
		late = append(late, w.join(fmt.Sprintf("late%d", i), w.at(node), keys[0]))
	}
	w.sleep(sized(2*time.Second, 20*time.Second))
	waiting := 0
	for _, c := range late {
		if n, _ := w.check.rows(c.watcher, keys[0]); n == 0 {
			waiting++
		}
	}
	t.Logf("%d of %d who came without a free file wait", waiting, len(late))
	if waiting < len(late)/2 {
		t.Errorf("%d of %d got in: there were files", len(late)-waiting, len(late))
	}
	b.undisturbed(before, time.Second)
	if n := ended() - endedBefore; n > 0 {
		t.Errorf("%d connections ended because others could not be made", n)
	}
	must(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, &normal, nil))
	text, err := os.ReadFile(node.log)
	must(t, err)
	if refused := strings.Count(string(text), "too many open files"); refused == 0 {
		t.Error("the node could open all the files that it wanted")
	}
	b.end()
	t.Logf("all are in, and all is well, %v after there are files again", round(w.settle()))
}
