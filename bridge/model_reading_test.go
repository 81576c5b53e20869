package bridge_test

import (
	"fmt"
	"slices"
	"strings"

	"github.com/entity-sync/entity-sync/bridge/events"
	"github.com/entity-sync/entity-sync/internal/eventqueue"
	"github.com/entity-sync/entity-sync/shared"
)

// queued is an event in a client's queue, as package web has it.
type queued struct {
	*events.Delivery
	ordinal int // among all that the client was handed
}

var _ eventqueue.Event = queued{}

func (q queued) Topics() (topics []string) {
	for _, topic := range q.Context {
		topics = append(topics, string(topic))
	}
	return topics
}

func (q queued) Without(topic string) (eventqueue.Event, bool) {
	context := slices.DeleteFunc(slices.Clone(q.Context), func(t shared.Topic) bool { return string(t) == topic })
	d := &events.Delivery{Topic: q.Topic, Context: context, Event: q.Event, Latest: q.Latest, Fence: q.Fence}
	return queued{d, q.ordinal}, len(context) > 0
}

func (q queued) Key() string {
	if q.Latest {
		return string(q.Topic)
	}
	return ""
}

func (q queued) IsFence() bool { return q.Fence }

func (q queued) Bytes() int { return len(q.Event.JSON()) }

func (q queued) Frame() []byte {
	return fmt.Appendf(nil, "event %s %d %s %d", q.Event.ID(), q.ordinal, strings.Join(q.Topics(), ","), q.Bytes())
}

// handed is an event that was handed to a client, or nil for a gap.
type handed struct {
	*published
	ordinal int  // among all that the client was handed
	fences  int  // that were handed to the client before
	fresh   bool // no other of its topic can have waited, in whose place it would be
}

// isConflatedWith reports whether one may take the place of the other.
func (e handed) isConflatedWith(other handed) bool {
	return other.published != nil && e.latest && other.latest && e.topics[0] == other.topics[0] && e.fences == other.fences
}

// waiting is what was handed to a subscription and is not read yet.
type waiting struct {
	log []handed

	// What the gaps said that were read since the last event.
	missed     int
	unknown    bool
	superseded int // events that a later one of their topic has replaced

	fences int // before the last event that was read
}

// take reads so many events, and the gaps before them. The order of gaps of several
// subscriptions says nothing.
func (h *hearer) take(most int) {
	h.model.mu.Lock()
	defer h.model.mu.Unlock()
	var sizes []int
	gaps, heard := map[shared.Topic]int{}, map[shared.Topic]int{}
	for len(sizes) < most && !h.queue.IsEmpty() {
		frame := h.queue.Take(nil, 1, 1)[0]
		kind, rest, _ := strings.Cut(string(frame), " ")
		if kind == "gap" {
			var topic string
			var missed int
			_, _ = fmt.Sscanf(rest, "%s %d", &topic, &missed)
			gaps[shared.Topic(topic)]++
			h.readGap(shared.Topic(topic), missed)
			continue
		}
		var id, topics string
		var size, ordinal int
		_, _ = fmt.Sscanf(rest, "%s %d %s %d", &id, &ordinal, &topics, &size)
		sizes = append(sizes, size)
		for topic := range strings.SplitSeq(topics, ",") {
			heard[shared.Topic(topic)]++
			h.readEvent(shared.Topic(topic), h.model.events[id], ordinal)
		}
	}
	h.inspectBounds(sizes, gaps, heard)
}

// inspectBounds looks at what has waited for the client together.
func (h *hearer) inspectBounds(sizes []int, gaps, heard map[shared.Topic]int) {
	bytes := 0
	for _, size := range sizes {
		bytes += size
	}
	if limits := h.model.limits; len(sizes) > limits.Events || bytes > limits.Bytes && len(sizes) > 1 {
		h.complain("%d events of %d bytes have waited, more than %+v", len(sizes), bytes, limits)
	}
	for topic, n := range gaps {
		if n > 2+heard[topic] { // one before the first event, one after each
			h.complain("%d gaps of %q have waited among %d events", n, topic, heard[topic])
		}
	}
}

func (h *hearer) readGap(topic shared.Topic, missed int) {
	p := h.places[topic]
	if p == nil {
		h.complain("reads of a gap of %q, which it has left", topic)
		return
	}
	p.missed += missed
	p.unknown = p.unknown || missed == 0
}

func (h *hearer) readEvent(topic shared.Topic, e *published, ordinal int) {
	p := h.places[topic]
	if p == nil {
		h.complain("reads %v for %q, which it has left", e, topic)
		return
	}
	h.read[topic] = append(h.read[topic], e)
	i := slices.IndexFunc(p.log, func(l handed) bool { return l.published == e && l.ordinal == ordinal })
	if i < 0 {
		h.complain("reads %v for %q, which was not handed over, or is read already", e, topic)
		return
	}
	before := p.fences
	p.fences = p.log[i].fences
	switch {
	case p.fences < before:
		h.complain("reads %v for %q, which a later event has overtaken", e, topic)
	case e.latest:
		h.readLatest(p, i)
	default:
		h.inspectGaps(p, i)
		p.log, p.missed, p.unknown, p.superseded = p.log[i+1:], 0, false, 0
	}
}

// readLatest reads an event that stands for all earlier ones of its topic.
func (h *hearer) readLatest(p *place, i int) {
	e := p.log[i]
	if slices.ContainsFunc(p.log[i+1:], e.isConflatedWith) {
		h.complain("reads %v for %q, which is not the newest that was handed over", e, p.topic)
	}
	isSame := func(l handed) bool { return l.published != nil && l.latest && l.topics[0] == e.topics[0] }
	kept := slices.DeleteFunc(slices.Clone(p.log[:i]), isSame)
	p.superseded += i - len(kept)
	p.log = append(kept, p.log[i+1:]...)
}

// inspectGaps looks at whether the gaps that were read say how many of the next n things that
// were handed over had to go.
func (h *hearer) inspectGaps(p *place, n int) {
	least, most, unknown := 0, p.superseded, false
	for _, l := range p.log[:n] {
		if l.published == nil {
			unknown = true
			continue
		}
		most++
		if l.fresh {
			least++
		}
	}
	if unknown != p.unknown {
		h.complain("a gap of %q of unknown size was handed over: %v; read: %v", p.topic, unknown, p.unknown)
	}
	if p.missed > most || p.missed < least && !unknown {
		h.complain("of %q %d to %d events had to go, and the gaps say %d", p.topic, least, most, p.missed)
	}
}
