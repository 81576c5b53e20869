package events

import (
	"container/list"
	"slices"
	"time"

	"github.com/entity-sync/entity-sync/shared"
)

// overlap is how long before the event that a client names others are handed over again. Of other
// publishers they may have come to another node later, by as long as it takes to notice that one
// is missing.
const overlap = 6 * time.Second

// memory is the events that channels keep, in the order in which they came.
type memory struct {
	limit    int // bytes
	bytes    int
	kept     list.List // of *keptEvent
	channels map[string]*keptChannel
	topics   map[shared.Topic]*keptTopic
	byID     map[string]sameID
	number   uint64    // of the last event
	missed   uint64    // number of the last event before events may have been missed
	missedAt time.Time // when they may have been missed last
}

// sameID is the events that are kept with one id. There are several if an id comes from two
// sources, or if who published the event tried again. A client that names the id may have the
// first of them alone.
type sameID struct {
	first *list.Element // nil once the first was dropped: it is not known which a client has
	count int
}

// keptChannel is what is kept of one registered channel.
type keptChannel struct {
	name string
	kept list.List // of *list.Element of all that is kept

	gone gone // events that were not kept, and those dropped of a topic without a keptTopic
}

// keptEvent is an event in the memory.
type keptEvent struct {
	*message
	number uint64
	until  time.Time
	size   int

	channels  []*keptChannel // of its topics
	channel   *keptChannel   // that keeps most
	inChannel *list.Element
}

// keptTopic is what is kept of one topic.
type keptTopic struct {
	channel *keptChannel
	events  []*list.Element // the oldest first
	gone    gone            // events that were dropped
}

// keep remembers an event, where one of its topics' channels does. Rules are those of its topics;
// one that this node does not have is zero.
func (m *memory) keep(e *message, rules []Channel) {
	m.expire(e.arrived)
	m.number++
	rule := slices.MaxFunc(rules, func(a, b Channel) int { return a.Keep - b.Keep })
	if rule.Keep == 0 {
		m.letPass(e, rules)
		return
	}
	k := &keptEvent{message: e, number: m.number, until: e.arrived.Add(rule.KeepFor), size: eventOverhead + len(e.event.JSON())}
	k.channel = m.channel(rule.name)
	at := m.kept.PushBack(k)
	k.inChannel = k.channel.kept.PushBack(at)
	same := m.byID[e.event.ID()]
	if same.count++; same.count == 1 {
		same.first = at
	}
	m.byID[e.event.ID()] = same
	m.bytes += k.size
	for i, topic := range e.topics {
		c := m.channel(rules[i].name)
		if k.channels = append(k.channels, c); rules[i].Keep > 0 {
			m.list(at, topic, c)
		}
	}
	for i, topic := range e.topics {
		if t := m.topics[topic]; t != nil && len(t.events) > rules[i].Keep {
			m.drop(t.events[0])
		}
	}
	for m.bytes > m.limit {
		m.drop(m.kept.Front())
	}
}

func (m *memory) list(at *list.Element, topic shared.Topic, c *keptChannel) {
	t := m.topics[topic]
	if t == nil {
		t = &keptTopic{channel: c}
		m.topics[topic] = t
	}
	t.channel = c // not that of the first event, if the topic's own channel was registered meanwhile
	t.events = append(t.events, at)
}

// letPass notes an event that is not kept, for who comes back to what is.
func (m *memory) letPass(e *message, rules []Channel) {
	for _, rule := range rules {
		m.channel(rule.name).gone.add(passed{m.number, e.publisher, e.arrived})
	}
}

// eventOverhead is some of what an event takes beside its JSON.
const eventOverhead = 512

func (m *memory) channel(name string) *keptChannel {
	if m.channels == nil {
		m.channels, m.topics, m.byID = make(map[string]*keptChannel), make(map[shared.Topic]*keptTopic), make(map[string]sameID)
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
	m.forget(k.event.ID(), at)
	for i, topic := range k.topics {
		t, p := m.topics[topic], passed{k.number, k.publisher, k.arrived}
		if t == nil { // its channel keeps nothing
			k.channels[i].gone.add(p)
			continue
		}
		t.gone.add(p)
		place := slices.Index(t.events, at)
		if place < 0 {
			continue // the topic's channel was registered after the event, and keeps others
		}
		t.events = slices.Delete(t.events, place, place+1)
		if len(t.events) == 0 {
			delete(m.topics, topic)
			t.channel.gone.add(t.gone.newest)
			t.channel.gone.add(t.gone.other)
		}
	}
}

// forget notes that an event with an id was dropped.
func (m *memory) forget(id string, at *list.Element) {
	same := m.byID[id]
	if same.first == at {
		same.first = nil
	}
	if same.count--; same.count == 0 {
		delete(m.byID, id)
		return
	}
	m.byID[id] = same
}

// registered notes that a topic may have another rule from now on. Events that came before were
// ignored, or are remembered by the name of another channel.
func (m *memory) registered() {
	if m.number > 0 { // otherwise nothing is remembered
		m.miss()
	}
}

// miss notes that events may have been missed.
func (m *memory) miss() { m.missed, m.missedAt = m.number, time.Now() }

// replay hands a subscription what came after an event. Rule is that of the subscription's topic.
func (m *memory) replay(sub *subscription, rule Channel, after string) {
	m.expire(time.Now())
	at := m.byID[after].first
	if at == nil || !at.Value.(*keptEvent).isFor(sub) {
		sub.client.sink.Gap(sub.topic, 0)
		return
	}
	last := at.Value.(*keptEvent)
	if m.isIncomplete(sub, rule, last) {
		sub.client.sink.Gap(sub.topic, 0)
	}
	from := at
	for before := at.Prev(); before != nil && last.arrived.Sub(before.Value.(*keptEvent).arrived) <= overlap; before = before.Prev() {
		from = before
	}
	for ; from != nil; from = from.Next() {
		k := from.Value.(*keptEvent)
		isNew := k.number > last.number || k.publisher != last.publisher
		if isNew && k.isFor(sub) && !k.isNotFor(sub.client) {
			sub.client.sink.Event(k.deliveryFor(sub))
		}
	}
}

// isIncomplete reports whether something that came after an event, or shortly before it from
// another publisher, may be missing in what is kept for a subscription.
func (m *memory) isIncomplete(sub *subscription, rule Channel, last *keptEvent) bool {
	if m.missed >= last.number || last.arrived.Sub(m.missedAt) <= overlap {
		return true
	}
	for _, c := range m.channels {
		if c.gone.hasAfter(last) && (sub.topic == shared.Everything || c.name == rule.name) {
			return true
		}
	}
	for topic, t := range m.topics {
		if t.gone.hasAfter(last) && sub.hears(topic) {
			return true
		}
	}
	return false
}

// hears reports whether a subscription is for what is published to a topic.
func (s *subscription) hears(topic shared.Topic) bool {
	return s.topic == topic || s.topic == shared.Everything || !s.exact && s.topic.Covers(topic)
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
	d := &Delivery{Context: []shared.Topic{sub.topic}, Event: e.event, Latest: e.latest, Fence: e.fence}
	for _, topic := range e.topics {
		if sub.hears(topic) {
			d.Topic = topic
			break
		}
	}
	return d
}
