package bridge_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/entity-sync/entity-sync/bridge/events"
	"github.com/entity-sync/entity-sync/internal/eventqueue"
	"github.com/entity-sync/entity-sync/shared"
)

// hearer is a client of the model of topics. It checks what it is handed at the moment when it
// is handed it, and has that wait in a queue as sessions do.
type hearer struct {
	*events.Client
	model  *topicsModel
	number int
	node   *topicsNode

	// Guarded by the model's lock.
	queue     *eventqueue.Queue
	places    map[shared.Topic]*place
	denied    map[string]bool // channels
	live      map[*published]bool
	ordinal   int                           // of the last event that it was handed
	fences    int                           // that it was handed
	replaying *replay                       // while it subscribes after an event
	read      map[shared.Topic][]*published // of each topic that it was ever subscribed to
	foul      string                        // what was wrong first
}

// place is one subscription of a client.
type place struct {
	topic shared.Topic
	exact bool

	// What was handed over.
	pushes  int
	last    map[int]int // by publisher: number of its last event
	pushed  map[int]int // by publisher: pushes when that came
	gap     int         // pushes when the last gap came
	gapStep int
	before  int          // step of the gap that came before what was kept
	due     []*published // is to be handed over, or to be missing in a gap
	passed  []*published // was due, and later events of its publisher came without a gap

	waiting
}

// replay is what a client is handed when it subscribes after an event.
type replay struct {
	topic shared.Topic
	got   map[*published]bool
	kept  map[shared.Topic]int
}

func (p *place) hearsTopic(t shared.Topic) bool {
	return p.topic == shared.Everything || p.topic == t || !p.exact && p.topic.Covers(t)
}

func (p *place) hears(e *published) bool { return slices.ContainsFunc(e.topics, p.hearsTopic) }

func (h *hearer) complain(format string, args ...any) {
	h.foul = cmp.Or(h.foul, fmt.Sprintf(format, args...))
}

func (h *hearer) connect(n *topicsNode) {
	h.model.mu.Lock()
	defer h.model.mu.Unlock()
	h.node, h.Client = n, n.Events().NewClient(h)
	h.places, h.live = map[shared.Topic]*place{}, map[*published]bool{}
	h.queue = eventqueue.New(h.model.limits, func(topic string, missed uint64) []byte { return fmt.Appendf(nil, "gap %s %d", topic, missed) })
}

// moveTo connects the client to a node, with all that it was subscribed to, after the last
// events that it has read if it says so.
func (h *hearer) moveTo(n *topicsNode, after bool) {
	h.Close()
	h.model.mu.Lock()
	before := h.places
	h.model.mu.Unlock()
	h.connect(n)
	for _, topic := range slices.Sorted(maps.Keys(before)) {
		o := events.Options{Exact: before[topic].exact}
		if has := h.read[topic]; after && len(has) > 0 {
			o.After = has[len(has)-1].id()
		}
		h.subscribe(topic, o)
	}
}

// isFence reports whether the latest event of a topic must not overtake the event.
func (e *published) isFence() bool {
	isLatest := func(t shared.Topic) bool { return channels[t.Channel()].Latest }
	return len(e.topics) > 1 && slices.ContainsFunc(e.topics, isLatest)
}

func (e *published) id() string { return fmt.Sprint(e.node, "-", e.number) }

// someAfter returns the id of an event that the client has read, or of none.
func (h *hearer) someAfter(rt *rapid.T, topic shared.Topic) string {
	has := h.read[topic]
	if len(has) == 0 {
		return "unknown"
	}
	return has[len(has)-1-rapid.IntRange(0, min(3, len(has)-1)).Draw(rt, "events before the last")].id()
}

// subscribe asks for the right to a topic, as a session does.
func (h *hearer) subscribe(topic shared.Topic, o events.Options) {
	if !h.may(topic) {
		return
	}
	m := h.model
	m.mu.Lock()
	p := h.places[topic]
	if p == nil {
		p = &place{topic: topic, last: map[int]int{}, pushed: map[int]int{}}
		h.places[topic] = p
	}
	p.exact = o.Exact
	p.due = slices.DeleteFunc(p.due, func(e *published) bool { return !p.hears(e) })
	if o.After != "" {
		h.replaying = &replay{topic, map[*published]bool{}, map[shared.Topic]int{}}
		h.beginAfter(p, m.events[o.After])
	}
	pushes := p.pushes
	m.mu.Unlock()
	if err := h.Subscribe(topic, o); err != nil {
		m.rt.Fatalf("subscribing to %q: %v", topic, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	h.replaying = nil
	if o.After == "unknown" && p.gap <= pushes {
		h.complain("%q is subscribed to after an event that nobody knows, and is told of no gap", topic)
	}
}

// beginAfter has the subscription expect what came after an event, and what others published
// shortly before: the client may come from a node where that was still to come.
func (h *hearer) beginAfter(p *place, last *published) {
	clear(p.last)
	clear(p.pushed)
	if last == nil {
		return
	}
	for _, e := range h.model.inOrder {
		after := last.done > 0 && e.begun > last.done
		if e.node == last.node {
			after = e.number > last.number
		} else if e.took == 0 && last.took == 0 && last.at.Sub(e.at) <= shortly && !e.at.Before(h.node.joined) {
			after = true
		}
		if after && p.hears(e) && e.except != h.Client && !slices.Contains(p.due, e) {
			p.due = append(p.due, e)
		}
	}
}

// shortly is less than what nodes hand over again by how much later an event may come to one
// node than to another.
const shortly = 2 * time.Second

func (h *hearer) may(topic shared.Topic) bool {
	if topic == shared.Everything {
		return len(h.denied) == 0
	}
	return !h.denied[topic.Channel()]
}

// changeRights withdraws the right to a channel, or gives it back. What was subscribed to is
// left, as a session does.
func (h *hearer) changeRights(channel string) {
	if h.denied == nil {
		h.denied = map[string]bool{}
	}
	if h.denied[channel] {
		delete(h.denied, channel)
		return
	}
	h.denied[channel] = true
	for _, topic := range slices.Sorted(maps.Keys(h.places)) {
		if !h.may(topic) {
			h.leave(topic)
		}
	}
}

func (h *hearer) leave(topic shared.Topic) {
	h.Unsubscribe(topic)
	h.model.mu.Lock()
	defer h.model.mu.Unlock()
	delete(h.places, topic)
}

// expect notes an event that is being published.
func (h *hearer) expect(e *published) {
	if e.except == h.Client {
		return
	}
	for _, p := range h.places {
		if p.hears(e) {
			p.due = append(p.due, e)
		}
	}
}

// Event implements events.Sink.
func (h *hearer) Event(d *events.Delivery) {
	m := h.model
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.events[d.Event.ID()]
	if e == nil {
		h.complain("was handed %q, which was not published", d.Event.ID())
		return
	}
	h.inspect(d, e)
	h.ordinal++
	for _, topic := range d.Context {
		if p := h.places[topic]; p != nil {
			h.inspectOrder(p, e)
			l := handed{published: e, ordinal: h.ordinal, fences: h.fences}
			l.fresh = !slices.ContainsFunc(p.log, l.isConflatedWith)
			p.log = append(p.log, l)
		}
	}
	if e.isFence() {
		h.fences++
	}
	h.queue.Put(queued{d, h.ordinal})
}

// inspect looks at an event as the client may hear it at that moment.
func (h *hearer) inspect(d *events.Delivery, e *published) {
	var want []shared.Topic
	for topic, p := range h.places {
		if p.hears(e) && (h.replaying == nil || h.replaying.topic == topic) {
			want = append(want, topic)
		}
	}
	got := slices.Clone(d.Context)
	slices.Sort(want)
	slices.Sort(got)
	switch {
	case !slices.Equal(got, want):
		h.complain("%v was handed over for %q, want %q", e, got, want)
	case !slices.IsSortedFunc(d.Context, func(a, b shared.Topic) int { return depthOf(b) - depthOf(a) }):
		h.complain("%v was handed over for %q, which does not begin with the most special", e, d.Context)
	case !slices.Contains(e.topics, d.Topic) || d.Latest != e.latest:
		h.complain("%v was handed over as one of %q, the latest: %v", e, d.Topic, d.Latest)
	case e.except == h.Client:
		h.complain("%v was handed to who published it", e)
	}
	if h.replaying != nil {
		h.inspectReplay(h.replaying, e)
		return
	}
	if h.live[e] {
		h.complain("%v was handed over twice", e)
	}
	h.live[e] = true
}

// inspectReplay looks at an event that the node has kept.
func (h *hearer) inspectReplay(r *replay, e *published) {
	if r.got[e] {
		h.complain("%v was handed over twice when %q was subscribed to", e, r.topic)
	}
	r.got[e] = true
	keeps := false
	for _, topic := range e.topics {
		c := channels[topic.Channel()]
		keeps = keeps || c.Keep > 0 && time.Since(e.at) <= c.KeepFor+lateness
		if r.kept[topic]++; c.Keep > 0 && r.kept[topic] > c.Keep {
			h.complain("%d events of %q were kept", r.kept[topic], topic)
		}
	}
	if !keeps {
		h.complain("%v was kept", e)
	}
}

// lateness is how much later than published an event may come to a node.
const lateness = 30 * time.Second

func depthOf(t shared.Topic) int {
	if t == shared.Everything {
		return 0
	}
	return 1 + strings.Count(string(t), ".")
}

// inspectOrder looks at an event as the next of a subscription.
func (h *hearer) inspectOrder(p *place, e *published) {
	if last, any := p.last[e.node]; any && e.number <= last {
		h.complain("%v was handed to the subscription to %q after event %d", e, p.topic, last)
	}
	p.due = slices.DeleteFunc(p.due, func(earlier *published) bool {
		if earlier.node != e.node || earlier.number > e.number {
			return false
		}
		if earlier != e && !p.wasTold(earlier) {
			p.passed = append(p.passed, earlier)
		}
		return true
	})
	p.pushes++
	p.last[e.node], p.pushed[e.node] = e.number, p.pushes
}

// wasTold reports whether a gap has come since the event was published, and since the last event
// of its publisher; or before what was kept.
func (p *place) wasTold(e *published) bool {
	return e.begun <= p.before || p.gap > p.pushed[e.node] && e.begun <= p.gapStep
}

// Gap implements events.Sink.
func (h *hearer) Gap(topic shared.Topic, missed uint64) {
	m := h.model
	m.mu.Lock()
	defer m.mu.Unlock()
	p := h.places[topic]
	if p == nil {
		h.complain("was told of a gap of %q, which it is not subscribed to", topic)
		return
	}
	p.pushes++
	p.gap, p.gapStep = p.pushes, m.step
	if h.replaying != nil {
		p.before = m.step
	}
	p.log = append(p.log, handed{})
	h.queue.Gap(string(topic), missed)
}

// Retract implements events.Sink.
func (h *hearer) Retract(topic shared.Topic) {
	h.model.mu.Lock()
	defer h.model.mu.Unlock()
	h.queue.Retract(string(topic))
}

// untold returns what is wrong where an event that the bus took was neither handed over nor
// missing.
func (h *hearer) untold() string {
	var all []string
	for _, p := range h.places {
		for _, e := range p.passed {
			if e.acknowledged {
				all = append(all, fmt.Sprintf("%v was neither handed to the subscription to %q nor missing in its place", e, p.topic))
			}
		}
	}
	if all == nil {
		return ""
	}
	return slices.Min(all)
}

// finish looks at what should have come, and be read, when there is no more to come.
func (h *hearer) finish() {
	h.model.mu.Lock()
	defer h.model.mu.Unlock()
	for _, topic := range slices.Sorted(maps.Keys(h.places)) {
		p := h.places[topic]
		for _, e := range p.due {
			if !p.wasTold(e) {
				p.passed = append(p.passed, e)
			}
		}
		h.inspectGaps(p, len(p.log))
	}
}
