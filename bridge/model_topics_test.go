package bridge_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/bridge/events"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/eventqueue"
	"github.com/entity-sync/entity-sync/shared"
)

// TestPromisesOfTopicsUnderRandomSchedules drives nodes that come, leave and die, a bus that
// loses, doubles, delays and reorders messages, is slow and goes down, publishers that write to
// several topics at once, and clients that subscribe to a topic, to all below it or to
// everything, lose rights, leave, come back to any node after the last event that they have
// read, and read late. Each event is handed to each subscription that is to hear it, in its
// publisher's order and once, or a gap in its place; no other event is; what waits for a client
// and what a channel keeps is bounded; and what a client reads is what it was handed, less what
// the gaps count.
//
// What is handed to a client is checked in model_hearer_test.go, and what the client reads in
// model_reading_test.go.
func TestPromisesOfTopicsUnderRandomSchedules(t *testing.T) {
	inHalves(t, func(t *testing.T) {
		runSchedules(t, func(t *testing.T, rt *rapid.T) { newTopicsModel(t, rt).run() })
	})
}

const hearers = 3

// topicsModel is the world of one schedule.
type topicsModel struct {
	t       *testing.T
	rt      *rapid.T
	broker  membus.Broker
	nodes   []*topicsNode // alive
	ever    int           // nodes
	clients [hearers]*hearer

	fates  []fate
	limits eventqueue.Limits // of what waits for a client
	down   bool              // the broker
	fair   atomic.Bool       // no message is lost any more
	work   sync.WaitGroup    // publications

	mu      sync.Mutex // guards what follows, and all that the clients know
	step    int        // grows with each publication, and with its end
	events  map[string]*published
	inOrder []*published
}

// channels are those of every node. Of the first two no event is kept.
var channels = map[string]events.Channel{
	"news":    {},
	"cursors": {Latest: true},
	"kept":    {Keep: 3, KeepFor: 20 * time.Second},
	"places":  {Keep: 2, KeepFor: 10 * time.Second, Latest: true},
}

var (
	publishedTo  = []shared.Topic{"news", "kept", "kept.a", "kept.a.b", "cursors.a", "places.a", "places.b"}
	subscribedTo = []shared.Topic{shared.Everything, "news", "kept", "kept.a", "cursors", "cursors.a", "places", "places.a"}
)

// published is an event of the model.
type published struct {
	node, number int // of the publisher, and among its events
	topics       []shared.Topic
	latest       bool
	except       *events.Client
	begun        int // step
	done         int // step; zero while the publication is under way
	acknowledged bool
	at           time.Time
	took         time.Duration // until the publication ended
}

func (e *published) String() string {
	return fmt.Sprintf("event %d of node %d, to %v", e.number, e.node, e.topics)
}

// topicsNode is a node of the model.
type topicsNode struct {
	*node
	number    int
	joined    time.Time
	bus       *faultyBus
	slow      *tardyBus
	published int
}

// tardyBus takes its time before and after a message is published.
type tardyBus struct {
	bus.Bus
	before, after spell
}

// spell is how long something takes.
type spell struct{ atomic.Int64 }

func (s *spell) set(d time.Duration) { s.Store(int64(d)) }

func (s *spell) pass(ctx context.Context) error {
	if s.Load() == 0 {
		return nil
	}
	select {
	case <-time.After(time.Duration(s.Load())):
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", shared.ErrUnavailable, ctx.Err())
	}
}

func (b *tardyBus) Publish(ctx context.Context, topic shared.EntityType, body []byte) error {
	if err := b.before.pass(ctx); err != nil {
		return err
	}
	if err := b.Bus.Publish(ctx, topic, body); err != nil {
		return err
	}
	return b.after.pass(ctx)
}

// take has each message take so long, and a bit more: no two nodes' go at the same time, as
// which one would be first is chance.
func (n *topicsNode) take(before, after time.Duration) {
	if before > 0 {
		before += time.Duration(n.number)
	}
	n.slow.before.set(before)
	n.slow.after.set(after)
}

func newTopicsModel(t *testing.T, rt *rapid.T) *topicsModel {
	m := &topicsModel{t: t, rt: rt, events: map[string]*published{}}
	m.fates = rapid.SliceOfN(rapid.Custom(drawFate), 1, 8).Draw(rt, "fates")
	m.limits = []eventqueue.Limits{
		{Events: 3, Bytes: 10_000}, {Events: 20, Bytes: 1000}, {Events: 256, Bytes: 1 << 20}, // as of sessions
	}[max(0, rapid.IntRange(-3, 2).Draw(rt, "limits"))]
	for range 2 {
		m.join()
	}
	for i := range m.clients {
		m.clients[i] = &hearer{model: m, number: i, read: map[shared.Topic][]*published{}}
		m.clients[i].connect(m.nodes[i%2])
		for _, topic := range rapid.SliceOfN(rapid.SampledFrom(subscribedTo), 1, 3).Draw(rt, "topics") {
			m.clients[i].subscribe(topic, events.Options{})
		}
	}
	return m
}

func (m *topicsModel) join() {
	n := &topicsNode{number: m.ever, joined: time.Now(), bus: &faultyBus{Bus: m.broker.NewNode()}}
	m.ever++
	n.bus.setFate(inTurn(m.fates, n.number, &m.fair))
	n.slow = &tardyBus{Bus: n.bus}
	n.node = newNodeThatWrites(m.t, canary.Watch(m.t), &m.broker, bridge.Config{Bus: n.slow})
	for name, c := range channels {
		if err := n.Events().Register(name, c); err != nil {
			m.rt.Fatal(err)
		}
	}
	m.nodes = append(m.nodes, n)
}

// end takes a node away, killed or closed. Its clients come back to others.
//
// A node that goes right after the bus lost its message takes the knowledge of that with it, so
// that it goes when a beat has come through.
func (m *topicsModel) end(kill bool) {
	if len(m.nodes) == 1 {
		return
	}
	i := rapid.IntRange(0, len(m.nodes)-1).Draw(m.rt, "node")
	n := m.nodes[i]
	n.take(0, 0)
	m.fair.Store(true)
	time.Sleep(10 * time.Second)
	synctest.Wait()
	m.fair.Store(false)
	m.nodes = slices.Delete(m.nodes, i, i+1)
	if kill {
		n.bus.kill()
	}
	for j, h := range m.clients {
		if h.node == n {
			h.moveTo(m.nodes[j%len(m.nodes)], true)
		}
	}
	m.close(n)
}

func (m *topicsModel) close(n *topicsNode) {
	synctest.Wait()
	if s := n.Stats().Events; s.Subscriptions != 0 || s.Topics != 0 || s.Bad != 0 {
		m.rt.Fatalf("a node has not let go of everything: %+v", s)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := n.Close(ctx); err != nil {
		m.rt.Fatal(err)
	}
}

func (m *topicsModel) someNode(rt *rapid.T) *topicsNode {
	return m.nodes[rapid.IntRange(0, len(m.nodes)-1).Draw(rt, "node")]
}

func (m *topicsModel) someone(rt *rapid.T) *hearer {
	return m.clients[rapid.IntRange(0, hearers-1).Draw(rt, "client")]
}

// publish begins to publish an event, which ends at once unless the bus is slow.
func (m *topicsModel) publish(n *topicsNode, topics []shared.Topic, size int, except *hearer) {
	e := &published{node: n.number, number: n.published, topics: topics, took: -1, latest: len(topics) == 1 && channels[topics[0].Channel()].Latest, at: time.Now()}
	n.published++
	if except != nil && except.node == n {
		e.except = except.Client
	}
	id := fmt.Sprint(e.node, "-", e.number)
	event, err := shared.NewEvent(shared.EventFields{
		ID: id, Source: "/model", Type: "t", Time: e.at, Data: json.RawMessage(`"` + strings.Repeat("x", size) + `"`),
	})
	if err != nil {
		m.rt.Fatal(err)
	}
	m.mu.Lock()
	m.step++
	e.begun = m.step
	m.events[id], m.inOrder = e, append(m.inOrder, e)
	for _, h := range m.clients {
		h.expect(e)
	}
	m.mu.Unlock()
	m.work.Go(func() {
		err := n.Events().Publish(m.t.Context(), events.Publication{Topics: topics, Event: event, Except: e.except})
		m.mu.Lock()
		defer m.mu.Unlock()
		m.step++
		e.done, e.took, e.acknowledged = m.step, time.Since(e.at), err == nil
	})
	synctest.Wait()
	time.Sleep(time.Microsecond) // so that no two nodes' beats, nor what follows from an event, come at the same time
	synctest.Wait()
}

// someTopics returns topics without doubles.
func someTopics(rt *rapid.T) (topics []shared.Topic) {
	for _, topic := range rapid.SliceOfN(rapid.SampledFrom(publishedTo), 1, 3).Draw(rt, "topics") {
		if !slices.Contains(topics, topic) {
			topics = append(topics, topic)
		}
	}
	return topics
}

func (m *topicsModel) publishSomething(rt *rapid.T) {
	var except *hearer
	if rapid.IntRange(0, 4).Draw(rt, "without an echo") == 0 {
		except = m.someone(rt)
	}
	m.publish(m.someNode(rt), someTopics(rt), rapid.SampledFrom([]int{0, 300}).Draw(rt, "bytes"), except)
}

// publishMuch publishes more than may wait for a client, by number or by size. That is seldom
// done where much may wait.
func (m *topicsModel) publishMuch(rt *rapid.T) {
	n, topics := m.someNode(rt), someTopics(rt)
	many, size := m.limits.Events+2, 0
	if rapid.Bool().Draw(rt, "large") {
		size = min(m.limits.Bytes/5, 30<<10)
		many = m.limits.Bytes/size + 1
	}
	if many > 30 && rapid.IntRange(0, 4).Draw(rt, "seldom") != 4 {
		many, size = 2, 0
	}
	for range many {
		m.publish(n, topics, size, nil)
	}
}

func (m *topicsModel) run() {
	m.rt.Repeat(map[string]func(*rapid.T){
		"": func(*rapid.T) {
			synctest.Wait()
			m.complain()
		},
		"publish":       m.publishSomething,
		"publish again": m.publishSomething,
		"burst":         m.publishMuch,
		"subscribe": func(rt *rapid.T) {
			h := m.someone(rt)
			topic := rapid.SampledFrom(subscribedTo).Draw(rt, "topic")
			o := events.Options{Exact: rapid.IntRange(0, 3).Draw(rt, "exact") == 0}
			if rapid.Bool().Draw(rt, "after") {
				o.After = h.someAfter(rt, topic)
			}
			h.subscribe(topic, o)
		},
		"unsubscribe": func(rt *rapid.T) {
			m.someone(rt).leave(rapid.SampledFrom(subscribedTo).Draw(rt, "topic"))
		},
		"rights": func(rt *rapid.T) {
			m.someone(rt).changeRights(rapid.SampledFrom([]string{"news", "kept", "places"}).Draw(rt, "channel"))
		},
		"read":     func(rt *rapid.T) { m.someone(rt).take(rapid.SampledFrom([]int{1, 2}).Draw(rt, "most")) },
		"read all": func(rt *rapid.T) { m.someone(rt).take(1 << 20) },
		"return":   func(rt *rapid.T) { m.someone(rt).moveTo(m.someNode(rt), rapid.Bool().Draw(rt, "after")) },
		"read and return": func(rt *rapid.T) {
			h := m.someone(rt)
			h.take(1 << 20)
			h.moveTo(m.someNode(rt), true)
		},
		"bus": func(*rapid.T) {
			m.down = !m.down
			m.broker.SetDown(m.down)
		},
		"slow": func(rt *rapid.T) {
			spells := rapid.SampledFrom([]time.Duration{0, time.Second, time.Minute})
			m.someNode(rt).take(spells.Draw(rt, "before"), spells.Draw(rt, "after"))
		},
		"wait": func(rt *rapid.T) {
			time.Sleep(time.Duration(rapid.IntRange(1, 5000).Draw(rt, "ms")) * time.Millisecond)
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

// complain fails the schedule where anything was wrong with what a client was handed.
func (m *topicsModel) complain() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range m.clients {
		if h.foul == "" {
			h.foul = h.untold()
		}
		if h.foul != "" {
			m.rt.Fatalf("client %d: %s", h.number, h.foul)
		}
	}
}

// check lets the weather clear, and looks at how everybody ends.
func (m *topicsModel) check() {
	m.fair.Store(true)
	for _, n := range m.nodes {
		n.take(0, 0)
	}
	m.broker.SetDown(false)
	time.Sleep(2 * time.Minute)
	m.work.Wait()
	synctest.Wait()
	for _, h := range m.clients {
		h.take(1 << 20)
		h.finish()
	}
	m.complain()
	for _, h := range m.clients {
		h.Close()
	}
	for _, n := range m.nodes {
		m.close(n)
	}
}
