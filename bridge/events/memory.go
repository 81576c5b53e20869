package events

import (
	"container/list"
	"slices"
	"time"

	"github.com/entity-sync/entity-sync/shared"
)

// overlap is how long before the event that a client names others are handed over again: of
// other publishers they may have come to another node later.
const overlap = 2 * time.Second

// memory is the events that channels keep, in the order in which they came.
type memory struct {
	limit    int // bytes
	bytes    int
	kept     list.List // of *keptEvent
	channels map[string]*keptChannel
	topics   map[shared.Topic]*keptTopic
	byID     map[string]*list.Element // the last event with the id
	number   uint64                   // of the last event
	missed   uint64                   // number of the last event before events may have been missed
}

// keptChannel is what is kept of one registered channel.
type keptChannel struct {
	name string
	kept list.List // of *list.Element of all that is kept

	// dropped is the number of the newest event that was dropped of a topic without a
	// keptTopic.
	dropped uint64
}

// keptEvent is an event in the memory.
type keptEvent struct {
	*message
	number uint64
	until  time.Time
	size   int

	channel   *keptChannel
	inChannel *list.Element
}

// keptTopic is what is kept of one topic.
type keptTopic struct {
	channel *keptChannel
	events  []*list.Element // the oldest first
	dropped uint64          // number of the newest that was dropped
}

// keep remembers an event, where its channel does.
func (m *memory) keep(e *message, rule Channel) {
	if rule.Keep == 0 {
		return
	}
	m.expire(e.arrived)
	m.number++
	c := m.channel(rule.name)
	k := &keptEvent{message: e, number: m.number, until: e.arrived.Add(rule.KeepFor), size: eventOverhead + len(e.event.JSON()), channel: c}
	at := m.kept.PushBack(k)
	k.inChannel = c.kept.PushBack(at)
	m.byID[e.event.ID()] = at
	m.bytes += k.size
	for _, topic := range e.topics {
		t := m.topics[topic]
		if t == nil {
			t = &keptTopic{channel: c}
			m.topics[topic] = t
		}
		if t.events = append(t.events, at); len(t.events) > rule.Keep {
			m.drop(t.events[0])
		}
	}
	for m.bytes > m.limit {
		m.drop(m.kept.Front())
	}
}

// eventOverhead is some of what an event takes beside its JSON.
const eventOverhead = 512

func (m *memory) channel(name string) *keptChannel {
	if m.channels == nil {
		m.channels, m.topics, m.byID = make(map[string]*keptChannel), make(map[shared.Topic]*keptTopic), make(map[string]*list.Element)
	}
	c := m.channels[name]
	if c == nil {
		c = &keptChannel{name: name}
		m.channels[name] = c
	}
	return c
}

// expire drops what is kept no longer. In one channel the oldest is dropped first.
func (m *memory) expire(now time.Time) {
	for _, c := range m.channels {
		for c.kept.Len() > 0 {
			at := c.kept.Front().Value.(*list.Element)
			if !now.After(at.Value.(*keptEvent).until) {
				break
			}
			m.drop(at)
		}
	}
}

func (m *memory) drop(at *list.Element) {
	k := m.kept.Remove(at).(*keptEvent)
	k.channel.kept.Remove(k.inChannel)
	m.bytes -= k.size
	if m.byID[k.event.ID()] == at {
		delete(m.byID, k.event.ID())
	}
	for _, topic := range k.topics {
		t := m.topics[topic]
		t.dropped = max(t.dropped, k.number)
		i := slices.Index(t.events, at)
		t.events = slices.Delete(t.events, i, i+1)
		if len(t.events) == 0 {
			delete(m.topics, topic)
			t.channel.dropped = max(t.channel.dropped, t.dropped)
		}
	}
}

// miss notes that events may have been missed.
func (m *memory) miss() { m.missed = m.number }

// replay hands a subscription what came after an event.
func (m *memory) replay(sub *subscription, after string) {
	m.expire(time.Now())
	at := m.byID[after]
	if at == nil || !at.Value.(*keptEvent).isFor(sub) {
		sub.client.sink.Gap(sub.topic, 0)
		return
	}
	last := at.Value.(*keptEvent)
	if m.isIncomplete(sub, last.number) {
		sub.client.sink.Gap(sub.topic, 0)
	}
	from := at
	for before := at.Prev(); before != nil && last.arrived.Sub(before.Value.(*keptEvent).arrived) <= overlap; before = before.Prev() {
		from = before
	}
	for ; from != nil; from = from.Next() {
		k := from.Value.(*keptEvent)
		if isNew := k.number > last.number || k.publisher != last.publisher; isNew && k.isFor(sub) {
			sub.client.sink.Event(k.deliveryFor(sub))
		}
	}
}

// isIncomplete reports whether something that came after the event of a number may be missing
// in what is kept for a subscription.
func (m *memory) isIncomplete(sub *subscription, number uint64) bool {
	if m.missed >= number {
		return true
	}
	for _, c := range m.channels {
		if c.dropped > number && (sub.topic == shared.Everything || c.name == AnyChannel || c.name == sub.topic.Channel()) {
			return true
		}
	}
	for topic, t := range m.topics {
		if t.dropped > number && sub.hears(topic) {
			return true
		}
	}
	return false
}

// hears reports whether a subscription is for what is published to a topic.
func (s *subscription) hears(topic shared.Topic) bool {
	return s.topic == topic || !s.exact && s.topic.Covers(topic)
}

func (e *message) isFor(sub *subscription) bool {
	for _, topic := range e.topics {
		if sub.hears(topic) {
			return true
		}
	}
	return false
}

// deliveryFor returns the Delivery of an event for one subscription.
func (e *message) deliveryFor(sub *subscription) *Delivery {
	d := &Delivery{Context: []shared.Topic{sub.topic}, Event: e.event, Latest: e.latest}
	for _, topic := range e.topics {
		if sub.hears(topic) {
			d.Topic = topic
			break
		}
	}
	return d
}
