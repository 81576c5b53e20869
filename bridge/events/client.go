package events

import (
	"github.com/entity-sync/entity-sync/internal/compact"
	"github.com/entity-sync/entity-sync/shared"
)

// Sink takes one client's events. Its methods are called one after the other with the Hub's
// lock held: they must return at once and must not call the Hub.
type Sink interface {
	// Event hands over an event.
	Event(*Delivery)

	// Gap says that a subscription has missed events: how many, or zero where that is not
	// known.
	Gap(topic shared.Topic, missed uint64)

	// Retract takes back what waits of a subscription that has ended. A Delivery whose
	// Context holds other topics stays, for those.
	Retract(topic shared.Topic)
}

// Client is one subscriber: a session, or the application itself.
type Client struct {
	hub    *Hub
	sink   Sink
	number uint64 // among the node's

	// Guarded by the Hub's lock.
	subs   compact.Set[shared.Topic, *subscription]
	match  match
	closed bool
}

// subscription is one client's place in one topic.
type subscription struct {
	client *Client
	topic  shared.Topic
	number uint64 // Config.Sequence when it began; zero after an event
	place  int32  // among the topic's subscriptions
	exact  bool   // it does not hear what is below
}

// Key implements compact.Keyed.
func (s *subscription) Key() shared.Topic { return s.topic }

// NewClient adds a client whose events go to sink, until Close.
func (h *Hub) NewClient(sink Sink) *Client {
	return &Client{hub: h, sink: sink, number: h.clientsEver.Add(1)}
}

// Options says what a subscription gives besides the events from now on.
type Options struct {
	// Exact leaves out what is below the topic.
	Exact bool

	// After is the id of the last event that the client has: what came after that is handed
	// over first, as far as the channel keeps it. The client is told of a gap where that is
	// not everything. Events that came shortly before may be handed over again.
	After string
}

// Subscribe has the client hear a topic: an event that is published once Subscribe has returned
// reaches the client. Subscribing again changes what Exact says, and hands over what came after
// another event. It returns an error wrapping shared.ErrBadTopic, ErrUnknownTopic or ErrClosed.
func (c *Client) Subscribe(topic shared.Topic, o Options) error {
	h := c.hub
	rule, err := h.Rule(topic)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if c.closed {
		return shared.ErrClosed
	}
	sub := c.subs.Get(topic)
	if sub == nil {
		sub = &subscription{client: c, topic: topic, number: h.config.Sequence()}
		if c.subs.Len() == 0 {
			h.clients[c] = struct{}{}
		}
		c.subs.Put(sub)
		h.topics.add(sub)
		h.counts.subscriptions.Add(1)
	}
	sub.exact = o.Exact
	if o.After != "" {
		sub.number = 0 // what was missed before now counts as well
		h.memory.replay(sub, rule, o.After)
	}
	return nil
}

// Unsubscribe ends a subscription, and reports whether there was one. Nothing of it is handed
// over once Unsubscribe has returned.
func (c *Client) Unsubscribe(topic shared.Topic) bool {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	sub := c.subs.Get(topic)
	if sub == nil {
		return false
	}
	c.removeLocked(sub)
	return true
}

func (c *Client) removeLocked(sub *subscription) {
	h := c.hub
	h.topics.remove(sub)
	c.subs.Delete(sub.topic)
	if c.subs.Len() == 0 {
		delete(h.clients, c)
	}
	h.counts.subscriptions.Add(-1)
	c.sink.Retract(sub.topic)
}

// Topics returns what the client is subscribed to, in no order.
func (c *Client) Topics() []shared.Topic {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	topics := make([]shared.Topic, 0, c.subs.Len())
	for sub := range c.subs.All() {
		topics = append(topics, sub.topic)
	}
	return topics
}

// Has reports whether the client is subscribed to a topic.
func (c *Client) Has(topic shared.Topic) bool {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	return c.subs.Get(topic) != nil
}

// Len returns how many topics the client is subscribed to.
func (c *Client) Len() int {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	return c.subs.Len()
}

// Close ends every subscription, and returns their topics, in no order. Nothing is handed over
// once Close has returned.
func (c *Client) Close() (ended []shared.Topic) {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	c.closed = true
	for _, sub := range c.subscriptionsLocked() {
		ended = append(ended, sub.topic)
		c.removeLocked(sub)
	}
	return ended
}

func (c *Client) subscriptionsLocked() (list []*subscription) {
	for sub := range c.subs.All() {
		list = append(list, sub)
	}
	return list
}
