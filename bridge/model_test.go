package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/echo"
	"github.com/entity-sync/entity-sync/shared"
)

// TestPromisesUnderRandomSchedules drives nodes that come, leave and die, a bus
// that loses, doubles, delays and reorders messages and goes down altogether, or is
// two brokers that are paused, out of a node's reach or lose its subscription, slow
// and failing fetches, rows that go and rows that may not be seen, secrets whose
// scope changes, and clients that subscribe, leave, change their secret and read
// late, in random order on a clock of its own. What each client is handed must be for
// it, and never older than what it read before; and in the end everybody has the newest
// of everything they watch, and the nodes hold nothing any more.
//
// One schedule takes about a millisecond; -rapid.checks=50000 makes each half of
// the test that many.
func TestPromisesUnderRandomSchedules(t *testing.T) { inHalves(t, runModel) }

func inHalves(t *testing.T, run func(*testing.T)) {
	for _, half := range []string{"one half", "other half"} { // one a core
		t.Run(half, func(t *testing.T) {
			t.Parallel()
			run(t)
		})
	}
}

func runModel(t *testing.T) {
	t.Helper()
	runSchedules(t, func(t *testing.T, rt *rapid.T) { newModel(t, rt).run() })
}

// runSchedules runs a model under random schedules, each on a clock of its own.
func runSchedules(t *testing.T, run func(*testing.T, *rapid.T)) {
	t.Helper()
	rapid.Check(t, func(rt *rapid.T) {
		var failure any
		synctest.Test(t, func(t *testing.T) {
			// rapid ends a failing schedule by panicking, which must not
			// pass through the bubble.
			defer func() { failure = recover() }()
			run(t, rt)
		})
		// To shrink a schedule, rapid takes two panics for the same failure if they come from
		// the same line.
		switch fmt.Sprintf("%T", failure) {
		case "<nil>":
		case "rapid.invalidData": // a shorter schedule that draws more than it has
			panic(failure)
		default:
			panic(failure)
		}
	})
}

const (
	readers  = 4
	keys     = 2
	maxNodes = 3
)

// model is the world of one schedule.
type model struct {
	t      *testing.T
	rt     *rapid.T
	broker membus.Broker
	pair   *pairBroker // in place of broker, in some schedules
	db     world
	nodes  []*modelNode // alive
	all    [readers]*reader

	// How the nodes are set up, and what happens to what, as the schedule drew it.
	options bridge.EntityOptions
	roles   *roles // nil where scopes are not shared
	dawdle  []int
	fates   []fate

	down bool        // the broker
	fair atomic.Bool // no message is lost any more
}

type modelNode struct {
	*node
	bus   *faultyBus
	place *pairBus // nil on a single broker
}

func newModel(t *testing.T, rt *rapid.T) *model {
	m := &model{t: t, rt: rt}
	m.dawdle = rapid.SliceOfN(rapid.IntRange(0, 3), 1, 8).Draw(rt, "dawdle")
	m.fates = rapid.SliceOfN(rapid.Custom(drawFate), 1, 8).Draw(rt, "fates")
	m.options = bridge.EntityOptions{
		Workers:   rapid.IntRange(1, 2).Draw(rt, "workers"),
		BatchSize: rapid.IntRange(1, 3).Draw(rt, "batch size"),
	}
	if rapid.Bool().Draw(rt, "shared scopes") {
		m.roles = &roles{of: map[string]string{}}
		m.options.Scope = m.roles.scope
	}
	if rapid.Bool().Draw(rt, "refresh") {
		m.options.Refresh = time.Minute
	}
	if rapid.IntRange(0, 3).Draw(rt, "brokers") == 3 {
		m.pair = &pairBroker{}
	}
	for range 2 {
		m.join()
	}
	for i := range m.all {
		m.all[i] = &reader{secret: mark + "nobody", roles: m.roles, owner: map[*bridge.Slot]string{}, last: map[shared.EntityKey]seen{}, complain: rt.Fatalf}
		m.all[i].connect(m.nodes[i%2])
	}
	return m
}

// roles says in memory what the holder of a secret may see, as all others of the same
// role do. Nil gives everybody a role of their own.
type roles struct {
	mu sync.Mutex
	of map[string]string // where it was changed
}

func (r *roles) scope(secret string) string {
	if r == nil {
		return secret
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if role, changed := r.of[secret]; changed {
		return role
	}
	return strings.TrimRight(secret, "12")
}

func (r *roles) change(secret, role string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.of[secret] = role
}

// fate of a message on its way to one node: the zero value is the best.
func drawFate(t *rapid.T) fate {
	switch rapid.IntRange(0, 4).Draw(t, "fate") {
	case 0:
		return fate{lost: true}
	case 1:
		return fate{doubled: true, delay: time.Duration(rapid.IntRange(0, 2000).Draw(t, "delay")) * time.Millisecond}
	default:
		return fate{}
	}
}

// inTurn has messages meet one of the fates after the other, and the best one while it is
// fair.
func inTurn(fates []fate, from int, fair *atomic.Bool) func([]byte) fate {
	return func([]byte) fate {
		from++
		if fair.Load() {
			return fate{}
		}
		met := fates[from%len(fates)]
		if met.delay > 0 { // no two come at the same time, as which one would be first is chance
			met.delay += time.Duration(from)
		}
		return met
	}
}

func (m *model) join() {
	n := &modelNode{}
	if m.pair != nil {
		n.place = m.pair.join()
		n.bus = &faultyBus{Bus: n.place}
	} else {
		n.bus = &faultyBus{Bus: m.broker.NewNode()}
	}
	n.bus.setFate(inTurn(m.fates, len(m.nodes), &m.fair)) // two nodes do not meet the same
	n.node = newNodeThatWrites(m.t, canary.Watch(m.t), &m.broker, bridge.Config{Bus: n.bus})
	if err := n.RegisterBatch(items, m.db.fetcher(m.dawdle, m.roles), m.options); err != nil {
		m.rt.Fatal(err)
	}
	m.nodes = append(m.nodes, n)
}

// end takes a node away, killed or closed. Its clients come back to others.
//
// A node that goes right after the bus lost its message takes the knowledge of
// that with it: nobody will miss the number, and only Refresh finds what it
// announced. Without it such an end waits until a beat has come through.
func (m *model) end(kill bool) {
	if len(m.nodes) == 1 {
		return
	}
	if m.options.Refresh == 0 {
		m.fair.Store(true)
		if m.pair != nil {
			m.pair.heal()
		}
		time.Sleep(10 * time.Second)
		m.fair.Store(false)
	}
	i := rapid.IntRange(0, len(m.nodes)-1).Draw(m.rt, "node")
	n := m.nodes[i]
	m.nodes = slices.Delete(m.nodes, i, i+1)
	if kill {
		n.bus.kill()
	}
	for j, r := range m.all {
		if r.node == n {
			r.Close()
			r.connect(m.nodes[j%len(m.nodes)])
		}
	}
	m.close(n)
}

func (m *model) close(n *modelNode) {
	synctest.Wait() // a fetch may be under way, and end
	st := n.Stats()
	if st.Clients != 0 || st.Stale != 0 || st.Subscriptions != 0 || st.FetchesQueued != 0 ||
		st.FetchesRunning == 0 && (st.Views != 0 || st.Keys != 0) {
		m.rt.Fatalf("a node has not let go of everything: %+v", st)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := n.Close(ctx); err != nil {
		m.rt.Fatal(err)
	}
}

func (m *model) someKey(rt *rapid.T) shared.EntityKey {
	return shared.EntityKey{Entity: items, ID: fmt.Sprint(rapid.IntRange(0, keys-1).Draw(rt, "key"))}
}

func (m *model) someone(rt *rapid.T) *reader {
	return m.all[rapid.IntRange(0, readers-1).Draw(rt, "client")]
}

func (m *model) setDown(down bool) {
	m.down = down
	if m.pair != nil {
		m.pair.setDown(down)
		return
	}
	m.broker.SetDown(down)
}

// someBroker and someNode are of two brokers; they return false where there is one.
func (m *model) someBroker(rt *rapid.T) (int, bool) {
	if m.pair == nil {
		return 0, false
	}
	return rapid.IntRange(0, len(m.pair.brokers)-1).Draw(rt, "broker"), true
}

func (m *model) someNode(rt *rapid.T) (*modelNode, bool) {
	n := m.nodes[rapid.IntRange(0, len(m.nodes)-1).Draw(rt, "node")]
	return n, m.pair != nil
}

func (n *modelNode) hidesSilence() bool {
	return n.place != nil && (n.place.wires[0].hidesSilence() || n.place.wires[1].hidesSilence())
}

func (m *model) run() {
	m.rt.Repeat(map[string]func(*rapid.T){
		"": func(*rapid.T) {
			synctest.Wait()
			for i, r := range m.all {
				// One that is "b" may have been unsubscribed and not know it yet.
				if m.down && len(r.last) > 0 && !r.isB() && !r.isStale() {
					m.rt.Errorf("the bus is lost, and client %d is not told", i)
				}
				if len(r.last) > 0 && !r.isB() && !r.isStale() && r.node.hidesSilence() {
					m.rt.Errorf("a subscription is silent, and client %d is not told", i)
				}
			}
		},
		"write": func(rt *rapid.T) {
			k := m.someKey(rt)
			switch rapid.IntRange(0, 7).Draw(rt, "kind") {
			case 0:
				m.db.write(k, func(r *record) { r.deleted = true })
			case 1:
				m.db.write(k, func(r *record) { r.forbidden = mark + "b" })
			default:
				m.db.write(k, func(r *record) { r.deleted, r.forbidden = false, "" })
			}
			n := m.nodes[rapid.IntRange(0, len(m.nodes)-1).Draw(rt, "node")]
			_ = n.Notify(m.t.Context(), k) // fails while the bus is down
		},
		"subscribe":   func(rt *rapid.T) { m.someone(rt).watch(m.someKey(rt)) },
		"unsubscribe": func(rt *rapid.T) { m.someone(rt).leave(m.someKey(rt)) },
		"secret": func(rt *rapid.T) {
			m.someone(rt).change(rapid.SampledFrom([]string{mark + "a1", mark + "a2", mark + "b"}).Draw(rt, "secret"))
		},
		"role": func(rt *rapid.T) {
			if m.roles == nil {
				return
			}
			m.roles.change(rapid.SampledFrom([]string{mark + "a1", mark + "a2"}).Draw(rt, "secret"),
				rapid.SampledFrom([]string{mark + "a", mark + "c"}).Draw(rt, "role"))
			n := m.nodes[rapid.IntRange(0, len(m.nodes)-1).Draw(rt, "node")]
			for id := range keys { // all rows are others for its holder
				_ = n.Notify(m.t.Context(), shared.EntityKey{Entity: items, ID: fmt.Sprint(id)})
			}
		},
		"read": func(rt *rapid.T) { m.someone(rt).read() },
		"bus":  func(*rapid.T) { m.setDown(!m.down) },
		"pause": func(rt *rapid.T) {
			if i, ok := m.someBroker(rt); ok {
				m.pair.pause(i, !m.pair.isPaused(i))
				time.Sleep(rapid.SampledFrom([]time.Duration{0, 2 * echo.Patience}).Draw(rt, "for"))
			}
		},
		"cut": func(rt *rapid.T) { // from the first broker alone: all nodes reach the other
			if n, ok := m.someNode(rt); ok {
				n.place.wires[0].cut(rapid.Bool().Draw(rt, "cut"))
			}
		},
		"desert": func(rt *rapid.T) {
			if n, ok := m.someNode(rt); ok {
				i, _ := m.someBroker(rt)
				n.place.wires[i].desert()
			}
		},
		"wait": func(rt *rapid.T) {
			time.Sleep(time.Duration(rapid.IntRange(1, 3000).Draw(rt, "ms")) * time.Millisecond)
		},
		"join": func(*rapid.T) {
			if len(m.nodes) < maxNodes {
				m.join()
			}
		},
		"leave": func(*rapid.T) { m.end(false) },
		"die":   func(*rapid.T) { m.end(true) },
	})
	m.check()
}

// check lets the weather clear (no message is lost any more, beats least of all)
// and looks at how everybody ends.
func (m *model) check() {
	m.fair.Store(true)
	m.setDown(false)
	if m.pair != nil {
		m.pair.heal()
	}
	m.db.healthy.Store(true)
	if m.pair != nil {
		m.writeBehindACut()
	}
	time.Sleep(2 * time.Minute) // more than the longest back-off, Refresh and every queue
	for i, r := range m.all {
		r.read()
		if r.isStale() {
			m.rt.Errorf("client %d is not told that all is fresh", i)
		}
		for k, last := range r.last {
			if want := m.db.seenBy(k, r.secret, m.roles); !last.like(want) {
				m.rt.Errorf("client %d ends with %+v of %v, want %+v", i, last, k, want)
			}
		}
		r.Close()
	}
	synctest.Wait()
	for _, n := range m.nodes {
		m.close(n)
	}
}

// writeBehindACut announces a change by way of a broker that another node cannot reach.
func (m *model) writeBehindACut() {
	time.Sleep(10 * time.Second) // until all hear both brokers
	first, last := m.nodes[0], m.nodes[len(m.nodes)-1]
	if first == last {
		return
	}
	last.place.wires[0].cut(false)
	first.place.wires[0].cut(true)
	for id := range keys {
		k := shared.EntityKey{Entity: items, ID: fmt.Sprint(id)}
		m.db.write(k, func(r *record) { r.deleted, r.forbidden = false, "" })
		if err := last.Notify(m.t.Context(), k); err != nil {
			m.rt.Error(err)
		}
	}
}

// world is the database of the model.
type world struct {
	mu      sync.Mutex
	records map[shared.EntityKey]record
	healthy atomic.Bool // no fetch fails any more
}

type record struct {
	rev       int // of the last write
	deleted   bool
	forbidden string // to this secret
}

func (w *world) write(k shared.EntityKey, change func(*record)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.records == nil {
		w.records = map[shared.EntityKey]record{}
	}
	r := w.records[k]
	r.rev++
	change(&r)
	w.records[k] = r
}

func (w *world) read(k shared.EntityKey) record {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.records[k]
}

func (w *world) seenBy(k shared.EntityKey, secret string, roles *roles) seen {
	r := w.read(k)
	return seen{rev: r.rev, role: roles.scope(secret), deleted: r.deleted, forbidden: r.forbidden == secret}
}

// fetcher reads, then dawdles, then may fail: as the ordinal of the fetch and
// the schedule decide, so that the schedule is the only source of chance. It looks at
// roles before or after it dawdles.
func (w *world) fetcher(dawdle []int, roles *roles) shared.BatchFetcher {
	var mu sync.Mutex
	fetches := 0
	next := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		n := dawdle[fetches%len(dawdle)]
		fetches++
		return n, n == 3 && fetches%5 != 0 && !w.healthy.Load()
	}
	return func(_ context.Context, requests []shared.FetchRequest) []shared.FetchResult {
		results := make([]shared.FetchResult, len(requests))
		appendRoles := func() {
			for i, r := range requests {
				if results[i].Err == nil {
					results[i].Rows[0] = fmt.Appendf(results[i].Rows[0], " %s", roles.scope(r.Secret.Reveal()))
				}
			}
		}
		for i, r := range requests {
			rec := w.read(r.Key)
			switch {
			case rec.forbidden == r.Secret.Reveal():
				results[i].Err = shared.ErrForbidden
			case rec.deleted:
				results[i].Err = shared.ErrNotFound
			default:
				results[i].Rows = [][]byte{fmt.Appendf(nil, "%d", rec.rev)}
			}
		}
		seconds, broken := next()
		if seconds == 1 {
			appendRoles()
		}
		time.Sleep(time.Duration(seconds) * time.Second)
		if seconds != 1 {
			appendRoles()
		}
		if broken {
			for i := range results {
				results[i] = shared.FetchResult{Err: errors.New("broken")}
			}
		}
		return results
	}
}

// reader is a client of the model: it reads its outbox when the schedule says
// so, and checks every update against what it was promised.
type reader struct {
	*bridge.Client
	node     *modelNode
	roles    *roles
	secret   string                    // changed with mu
	last     map[shared.EntityKey]seen // since it subscribed
	complain func(format string, args ...any)

	mu    sync.Mutex
	queue bridge.Queue
	owner map[*bridge.Slot]string // the secret that it had when what waits was pushed; nil outside the model
	foul  string                  // what was wrong with what it was handed
	stale int                     // subscriptions, as it was told
}

// seen is what a client knows of a key.
type seen struct {
	rev       int
	role      string // whose it is
	deleted   bool
	forbidden bool
}

// like compares what a client ends with to what it should see. Of a row that is
// gone it knows nothing more.
func (s seen) like(want seen) bool {
	if s.deleted || want.deleted || want.forbidden {
		return s.deleted == want.deleted && !want.forbidden
	}
	return s.rev == want.rev && s.role == want.role
}

// connect makes it a client of a node, with all that it was subscribed to.
func (r *reader) connect(n *modelNode) {
	r.mu.Lock()
	r.queue, r.stale = bridge.Queue{}, 0
	r.mu.Unlock()
	r.node, r.Client = n, n.NewClient(r, bridge.ClientOptions{Secret: shared.NewSecret(r.secret)})
	watched := slices.SortedFunc(maps.Keys(r.last), func(a, b shared.EntityKey) int { return strings.Compare(a.ID, b.ID) })
	for _, k := range watched {
		delete(r.last, k)
		r.watch(k)
	}
}

func (r *reader) watch(k shared.EntityKey) {
	if _, watching := r.last[k]; !watching {
		r.last[k] = seen{}
	}
	if err := r.Subscribe(k, withSnapshot); err != nil {
		r.complain("subscribing to %v: %v", k, err)
	}
}

func (r *reader) leave(k shared.EntityKey) {
	r.Unsubscribe(k)
	delete(r.last, k)
}

func (r *reader) change(secret string) {
	r.mu.Lock()
	r.secret = secret
	r.mu.Unlock()
	r.SetSecret(secret)
}

// isB reports whether a key may be forbidden to the reader.
func (r *reader) isB() bool { return r.secret == mark+"b" }

func (r *reader) Push(s *bridge.Slot, u *bridge.Update) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.owner != nil {
		r.inspect(u)
		r.owner[s] = r.secret
	}
	r.queue.Put(s, u)
}

// inspect looks at what it is handed as it may see at that moment.
func (r *reader) inspect(u *bridge.Update) {
	if u.Kind != bridge.KindRows {
		return
	}
	if got, want := seenIn(u).role, r.roles.scope(r.secret); got != want {
		r.foul = fmt.Sprintf("a row of %q went to %q, who sees what %q sees", got, r.secret, want)
	}
}

// seenIn reads what the fetcher made of a row.
func seenIn(u *bridge.Update) (s seen) {
	_, _ = fmt.Sscanf(string(u.Rows[0]), "%d %s", &s.rev, &s.role)
	return s
}

func (r *reader) Drop(s *bridge.Slot) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.queue.Drop(s)
}

func (r *reader) AddStale(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stale += n; r.stale < 0 || r.stale > keys {
		r.foul = fmt.Sprintf("%d of %d subscriptions are said to be stale", r.stale, keys)
	}
}

func (r *reader) isStale() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stale > 0
}

// pop returns an update and the secret that it was pushed for.
func (r *reader) pop() (u *bridge.Update, owner string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, u, ok := r.queue.Pop()
	return u, r.owner[s], ok
}

func (r *reader) read() {
	r.mu.Lock()
	foul := r.foul
	r.mu.Unlock()
	if foul != "" {
		r.complain("%s", foul)
	}
	for u, owner, ok := r.pop(); ok; u, owner, ok = r.pop() {
		before, watching := r.last[u.Key]
		if !watching {
			r.complain("a push of %v, which is not subscribed", u.Key)
		}
		if r.owner != nil && owner != r.secret {
			r.complain("what was pushed for %q went to %q", owner, r.secret)
		}
		switch u.Kind {
		case bridge.KindDeleted:
			r.last[u.Key] = seen{rev: before.rev, deleted: true}
			continue
		case bridge.KindForbidden:
			if !r.isB() {
				r.complain("%q was refused %v, which was never forbidden to it", r.secret, u.Key)
			}
			delete(r.last, u.Key) // it is unsubscribed
			continue
		}
		now := seenIn(u)
		if now.rev < before.rev {
			r.complain("%v went back from revision %d to %d", u.Key, before.rev, now.rev)
		}
		r.last[u.Key] = now
	}
}
