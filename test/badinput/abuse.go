package badinput

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	// crowd is how many hostile connections there are at once.
	crowd = 200

	// hands is how many of them act at the same moment, where they do not just
	// wait. With more the measure would be of the machine, whose processors they
	// use as well as the node and the bystanders do.
	hands = 4

	// window is how long the bystanders are watched without the abuse, and with
	// it at least.
	window = 400 * time.Millisecond

	// maxMemory bounds what a node holds for a hostile connection, after a
	// garbage collection: the session, its goroutine's stack, and all that it has
	// made the node hold.
	maxMemory = 64 << 10

	// maxCPU bounds a node's time on the processor for each hostile frame, on a
	// machine that is as fast as usual; a connection that is made and ended costs no
	// more than its first frame may.
	maxCPU = time.Millisecond

	// The log gets a line a second of what clients decide, after fifty at once
	// (logsPerSecond and logBurst of package web), and the 1st, 2nd, 4th, 8th … request
	// that is refused for one reason. At the debug level all is said.
	maxLines       = 50 + 20
	maxLinesSecond = 1

	// slack is what the bystanders may wait longer beside twice as long: hostile
	// clients, bystanders, nsqd and the node share the processors of the machine.
	slack = 250 * time.Millisecond

	// late is how long a row may wait before the node no longer vouches for it (lateAfter
	// of package bridge). Where a machine is so busy that bystanders may wait for longer,
	// the node says so rightly.
	late = 2 * time.Second

	// tries is how often something must take too long for it to be the abuse.
	tries = 3
)

// abuse is what a crowd of hostile clients does to a node.
type abuse struct {
	row string // of the table, and which wire or variant

	// one is what one of them does, again and again with new connections until
	// the window is over. It returns how many frames, or requests, the node has
	// dealt with by then, and the connections that it leaves open.
	one func(i int) (frames int, open []*hostile, err error)

	// held, if it is not nil, is what one of them does at last, for the node's
	// memory to be measured with all of its connections open. Nil means that one
	// has left them open.
	held func(i int) (frames int, open []*hostile, err error)

	connections int // at once; zero means crowd
	hands       int // zero means hands
	maxMemory   int // for each of them; zero means maxMemory
}

// measured is what an abuse cost.
type measured struct {
	frames      int
	cpu         time.Duration // for each of them
	slowdown    float64       // of the node's build and machine, at that time
	memory      int           // for each connection, in bytes
	lines       int           // of the log, without those of the debug level
	quiet, p99  time.Duration // of the bystanders, before and during
	stale       int           // how often a bystander was told that its rows may be out of date
	busier      float64       // how much longer work takes during that has nothing to do with the node
	took        time.Duration
	during, was figures
}

// endure has a node bear an abuse with bystanders, and checks the bounds. What takes
// time depends on all that the machine does: where that is too long, it must be so
// each time.
func (n *node) endure(t *testing.T, a abuse) measured {
	t.Helper()
	for try := 1; ; try++ {
		m := n.bear(t, a)
		slow := m.tooSlow()
		if slow == nil {
			return m
		}
		if try == tries {
			t.Fatal(slow)
		}
	}
}

// bear has a node bear an abuse once, and checks all bounds but those of time.
func (n *node) bear(t *testing.T, a abuse) measured {
	t.Helper()
	if a.connections == 0 {
		a.connections = crowd
	}
	if a.hands == 0 {
		a.hands = hands
	}
	if a.maxMemory == 0 {
		a.maxMemory = maxMemory
	}
	b := startBystanders(t, n)
	n.until(t, "the bystanders are there", func(f figures) bool {
		return f.Subscriptions >= watchers*watched && f.FetchesRunning+f.FetchesQueued == 0
	})
	first := n.yardstick(t)
	idle := n.watch(t, b)

	waits, usual := b.take()
	m := measured{quiet: p99(waits), was: n.measure(t, true)}
	lines := loudLines(n.output(t))
	before, begin := n.measure(t, false), time.Now()
	var open []*hostile
	defer func() { hangUp(open) }()
	do := func(one func(int) (int, []*hostile, error)) {
		hangUp(open)
		var frames int
		frames, open = crowdDoes(t, a, one)
		m.frames += frames
	}
	for do(a.one); time.Since(begin) < window; do(a.one) {
	}
	if a.held != nil {
		do(a.held)
	}
	m.took = time.Since(begin)
	used := n.measure(t, false).CPU - before.CPU - time.Duration(idle*float64(m.took))
	m.cpu = max(0, used) / time.Duration(m.frames)
	m.during = n.measure(t, true)
	m.memory = max(0, m.during.Memory-m.was.Memory) / a.connections
	hangUp(open)
	open = nil
	m.lines = loudLines(n.output(t)) - lines
	b.settle(t)
	waits, yards := b.take()
	m.p99, m.busier = p99(waits), busier(usual, yards)
	m.stale = b.staleTimes()
	m.slowdown = (first.slowdown() + n.yardstick(t).slowdown()) / 2
	m.check(t, a, b)
	n.until(t, "nothing of it is left", func(f figures) bool {
		const ours = 2                    // connections for what is asked by tests come and go
		kept := 4 + runtime.GOMAXPROCS(0) // goroutines that stay, for the next fetch and the next write
		return f.Files <= m.was.Files+ours && f.Goroutines <= m.was.Goroutines+2*ours+kept && f.Subscriptions == m.was.Subscriptions
	})
	return m
}

// loudLines counts the lines of a log, without those of the debug level.
func loudLines(log string) int {
	return strings.Count(log, "\n") - strings.Count(log, " level=DEBUG ")
}

// watch lets the bystanders be for a while, and returns how much of a processor the
// node uses for them.
func (n *node) watch(t *testing.T, b *bystanders) float64 {
	t.Helper()
	b.take()
	before, begin := n.measure(t, false), time.Now()
	time.Sleep(window)
	return float64(n.measure(t, false).CPU-before.CPU) / float64(time.Since(begin))
}

// crowdDoes has all hostile clients do something.
func crowdDoes(t *testing.T, a abuse, one func(i int) (int, []*hostile, error)) (frames int, open []*hostile) {
	t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	hands := make(chan struct{}, a.hands)
	for i := range a.connections {
		hands <- struct{}{}
		all.Go(func() {
			f, o, err := one(i)
			<-hands
			mu.Lock()
			defer mu.Unlock()
			frames += f
			open = append(open, o...)
			if err != nil && !t.Failed() {
				t.Errorf("hostile client %d: %v", i, err)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		hangUp(open)
		t.FailNow()
	}
	return frames, open
}

func hangUp(all []*hostile) {
	for _, h := range all {
		h.Close()
	}
}

// check checks the bounds, and says the figures.
func (m measured) check(t *testing.T, a abuse, b *bystanders) {
	t.Helper()
	t.Logf("figures: %-24s %7d frames by %3d connections: %6.1f KiB each, %6.0f µs a frame (slowdown %.1f), %2d lines; bystanders' p99 %5.1f ms, without %5.1f ms",
		a.row, m.frames, a.connections, float64(m.memory)/1024, float64(m.cpu)/float64(time.Microsecond), m.slowdown, m.lines,
		milliseconds(m.p99), milliseconds(m.quiet))
	if m.memory > a.maxMemory {
		t.Errorf("%d bytes for each hostile connection, want %d at most", m.memory, a.maxMemory)
	}
	if limit := maxLines + maxLinesSecond*int(m.took.Seconds()+1); m.lines > limit {
		t.Errorf("%d lines in the log, want %d at most", m.lines, limit)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed != nil {
		t.Error(b.failed)
	}
}

// tooSlow returns what took too long, nil if nothing did.
func (m measured) tooSlow() error {
	if limit := time.Duration(m.slowdown * float64(maxCPU)); m.cpu > limit {
		return fmt.Errorf("%v on the processor for each hostile frame, want %v at most: all takes %.1f times as long as usual", m.cpu, limit, m.slowdown)
	}
	limit := time.Duration(float64(2*m.quiet+slack) * m.busier)
	if m.p99 > limit {
		return fmt.Errorf("the bystanders' p99 is %v, want %v at most: it is %v without the abuse, and the machine %.1f times as busy", m.p99, limit, m.quiet, m.busier)
	}
	if m.stale > 0 && limit < late {
		return fmt.Errorf("the bystanders were told %d times that their rows may be out of date; the machine is %.1f times as busy", m.stale, m.busier)
	}
	return nil
}

// busier returns how much longer the same work takes than usually, at least once.
func busier(usual, now []time.Duration) float64 {
	if len(usual) == 0 || len(now) == 0 {
		return 1
	}
	return max(1, float64(p99(now))/float64(usual[len(usual)/2]))
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// exchange is something that a hostile client says, and what it is answered.
type exchange struct {
	say  [][]byte
	want []string // of the frames: the classic wire has no messages for it
}

// says makes an exchange of one text message, which classic clients get no answer
// to.
func says(payload string, want ...string) exchange {
	return exchange{[][]byte{text(payload)}, want}
}

// ends makes an exchange that ends the connection with a close code.
func ends(code int, say ...[]byte) exchange {
	return exchange{say, []string{fmt.Sprint("close ", code), "end"}}
}

// isLast reports whether the connection is over afterwards.
func (e exchange) isLast() bool { return len(e.want) > 0 && e.want[len(e.want)-1] == "end" }

// do says it and checks the answer, on a connection that goes on unless it is
// over. It returns how many frames that were.
func (h *hostile) do(e exchange) (frames int, err error) {
	want := e.want
	if h.wire == classic && !e.isLast() {
		want = slices.DeleteFunc(slices.Clone(want), func(f string) bool { return !strings.HasPrefix(f, "pong") })
	}
	if err := h.say(e.say...); err != nil {
		return 0, err
	}
	return len(e.say), h.expect(want...)
}

// check checks the answers on both wires, each on a connection of its own, and that
// the connection goes on where it should.
func (n *node) check(t *testing.T, exchanges map[string]exchange) {
	t.Helper()
	for name, e := range exchanges {
		for _, w := range wires {
			if err := n.try(w, e); err != nil {
				t.Errorf("%s, %s: %v", w, name, err)
			}
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

func (n *node) try(w wire, e exchange) error {
	h, err := n.connect(w)
	if err != nil {
		return err
	}
	defer h.Close()
	if _, err := h.do(e); err != nil || e.isLast() {
		return err
	}
	if err := h.say(h.probe()); err != nil {
		return err
	}
	return h.expect(h.answered())
}

// repeat makes an abuse of exchanges that a connection survives: each client says
// all of them so many times over, and the last answer is waited for.
func (n *node) repeat(exchanges map[string]exchange, times int) func(i int) (int, []*hostile, error) {
	return func(i int) (frames int, open []*hostile, err error) {
		h, err := n.connect(wires[i%len(wires)])
		if err != nil {
			return 0, nil, err
		}
		open = []*hostile{h}
		for range times {
			for name, e := range exchanges {
				f, err := h.do(e)
				if err != nil {
					return 0, open, fmt.Errorf("%s, %s: %w", h.wire, name, err)
				}
				frames += f
			}
		}
		if err := h.say(h.probe()); err != nil {
			return 0, open, err
		}
		return frames + 1, open, h.expect(h.answered())
	}
}

// each makes an abuse of exchanges that end the connection: each client has a new
// one for each of them.
func (n *node) each(exchanges map[string]exchange) func(i int) (int, []*hostile, error) {
	return func(i int) (frames int, open []*hostile, err error) {
		for name, e := range exchanges {
			h, err := n.connect(wires[i%len(wires)])
			if err != nil {
				return 0, open, err
			}
			f, err := h.do(e)
			h.Close()
			if err != nil {
				return 0, open, fmt.Errorf("%s, %s: %w", h.wire, name, err)
			}
			frames += f
		}
		return frames, nil, nil
	}
}
