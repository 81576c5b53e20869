package events

import (
	"slices"

	"github.com/entity-sync/entity-sync/shared"
)

// deliver hands an event to the clients that it is for.
func (h *Hub) deliver(m *message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	rule, known := h.ruleOfLocked(m.topics)
	if !known {
		return // this node has no such channel, and so no subscription to it
	}
	m.latest = rule.Latest && len(m.topics) == 1
	m.fence = len(m.topics) > 1 && slices.ContainsFunc(m.topics, h.hasLatestLocked)
	h.keepLocked(m)
	h.match.begin(m)
	for client := range h.match.clients(&h.topics) {
		if m.isNotFor(client) {
			continue
		}
		h.counts.delivered.Add(1)
		client.sink.Event(h.match.delivery(client.match.names))
	}
	h.match.end()
}

// keepLocked has the memory take an event, unless no channel keeps any.
func (h *Hub) keepLocked(m *message) {
	if !h.keeps {
		return
	}
	h.rules = h.rules[:0]
	for _, topic := range m.topics {
		rule, _ := h.ruleLocked(topic)
		h.rules = append(h.rules, rule)
	}
	h.memory.keep(m, h.rules)
}

func (h *Hub) hasLatestLocked(topic shared.Topic) bool {
	rule, _ := h.ruleLocked(topic)
	return rule.Latest
}

// ruleOfLocked returns the rule of the first topic whose channel this node has.
func (h *Hub) ruleOfLocked(topics []shared.Topic) (c Channel, known bool) {
	for _, topic := range topics {
		if c, known = h.ruleLocked(topic); known {
			return c, true
		}
	}
	return c, false
}

// matcher finds the clients that an event is for, and by which of their subscriptions.
type matcher struct {
	number     uint64 // of the event
	message    *message
	names      []name
	matched    []*Client
	deliveries map[string]*Delivery // by the indexes of their names
	last       *Delivery            // most clients have the same
	lastKey    string
}

// name is a topic whose subscriptions hear the event.
type name struct {
	topic shared.Topic
	of    int  // index of the message's topic that it is above
	exact bool // it is that topic
}

// match is which names of the event a client is subscribed to.
type match struct {
	number uint64 // of the event
	names  []byte // two bytes for each index
}

func (t *matcher) begin(m *message) {
	t.number++
	t.message, t.names = m, t.names[:0]
	for of, topic := range m.topics {
		for up := range topic.Up() {
			if !slices.ContainsFunc(t.names, func(n name) bool { return n.topic == up && !n.exact && up != topic }) {
				t.names = append(t.names, name{up, of, up == topic})
			}
		}
	}
	t.names = append(t.names, name{shared.Everything, 0, true})
}

// end releases the event.
func (t *matcher) end() {
	clear(t.matched)
	clear(t.names)
	clear(t.deliveries)
	t.message, t.last, t.lastKey, t.matched = nil, nil, "", t.matched[:0]
}

// clients returns each client once, in the order of the names.
func (t *matcher) clients(all *topics) func(yield func(*Client) bool) {
	return func(yield func(*Client) bool) {
		for i, n := range t.names {
			s := all.get(n.topic)
			if s == nil {
				continue
			}
			for _, sub := range s.list {
				if sub.exact && !n.exact {
					continue
				}
				c := sub.client
				if c.match.number != t.number {
					c.match.number, c.match.names = t.number, c.match.names[:0]
					t.matched = append(t.matched, c)
				}
				c.match.names = append(c.match.names, byte(i), byte(i>>8)) //nolint:gosec // few names
			}
		}
		for _, c := range t.matched {
			if !yield(c) {
				return
			}
		}
	}
}

// delivery returns the Delivery for the names with the given indexes, the same one each time.
func (t *matcher) delivery(indexes []byte) *Delivery {
	if t.last != nil && t.lastKey == string(indexes) {
		return t.last
	}
	key := string(indexes)
	d := t.deliveries[key]
	if d == nil {
		d = &Delivery{Event: t.message.event, Latest: t.message.latest, Fence: t.message.fence}
		for i := 0; i < len(indexes); i += 2 {
			n := t.names[int(indexes[i])|int(indexes[i+1])<<8]
			if d.Topic == "" {
				d.Topic = t.message.topics[n.of]
			}
			if !slices.Contains(d.Context, n.topic) {
				d.Context = append(d.Context, n.topic)
			}
		}
		slices.SortStableFunc(d.Context, func(a, b shared.Topic) int { return depth(b) - depth(a) })
		if t.deliveries == nil {
			t.deliveries = make(map[string]*Delivery)
		}
		t.deliveries[key] = d
	}
	t.last, t.lastKey = d, key
	return d
}

// depth is how special a topic is: that of shared.Everything is the least.
func depth(t shared.Topic) (n int) {
	if t == shared.Everything {
		return 0
	}
	for range t.Up() {
		n++
	}
	return n
}
