package client

import (
	"context"
	"iter"

	"github.com/entity-sync/entity-sync/shared"
)

// TopicOptions say what a TopicSubscription hears.
type TopicOptions struct {
	// Exact leaves out what is below the topic. If another TopicSubscription of the Client hears
	// what is below the same topic, an event that was published to several topics counts as one
	// of the first that matches.
	Exact bool
}

// Received is an event, or word that events were missed in its place.
type Received struct {
	Topic   shared.Topic   // what the event was published to; of a gap what is subscribed to
	Context []shared.Topic // the Client's topics that the event matches, the most specific one first; shared: read only
	Event   shared.Event   // the zero Event of a gap

	// Gap says that events were missed: Missed of them, or zero if the number is not known.
	Gap    bool
	Missed uint64
}

// TopicSubscription is one caller's interest in a topic.
type TopicSubscription struct {
	client *Client
	entry  *topicEntry
	exact  bool
	inbox  inbox

	ready   chan struct{}
	isReady bool // ready is closed; guarded by the Client's mutex
}

// Topic subscribes to a topic. However many TopicSubscriptions a topic has, the server is asked
// once. Close the TopicSubscription when it is not needed any more.
//
// A topic carries events, of which each one counts. After a reconnect the server sends the events
// that were missed, as far as it keeps them (es.Keep), and the caller is told of a gap where it
// does not. A TopicSubscription that is made without a connection may get such earlier events too.
func (c *Client) Topic(topic shared.Topic, o TopicOptions) *TopicSubscription {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &TopicSubscription{client: c, exact: o.Exact && topic != shared.Everything, inbox: inbox{topic: topic}, ready: make(chan struct{})}
	why := topic.ValidateSubscription()
	switch {
	case why != nil:
	case c.denied != nil:
		why = c.denied
	case c.ended:
		why = shared.ErrClosed
	}
	if why != nil {
		s.entry = &topicEntry{topic: topic}
		s.endLocked(why)
		return s
	}
	e := c.topics[topic]
	if e == nil {
		c.numbered++
		e = &topicEntry{topic: topic, number: c.numbered, subs: make(map[*TopicSubscription]struct{})}
		c.topics[topic] = e
	}
	s.entry = e
	e.subs[s] = struct{}{}
	if e.serves(s) {
		s.readyLocked()
	}
	c.askTopicLocked(e)
	return s
}

// Topic returns the topic that the TopicSubscription is for.
func (s *TopicSubscription) Topic() shared.Topic { return s.entry.topic }

// Ready returns a channel that is closed once the server has acknowledged the subscription, so
// that events published from then on arrive. The channel is also closed once the
// TopicSubscription has ended: see Err.
func (s *TopicSubscription) Ready() <-chan struct{} { return s.ready }

// Events yields the events of the topic, each once, in the order in which they come, and the gaps
// between them. It ends with ctx, Close, and once the TopicSubscription has ended: see Err. A later
// call goes on where an earlier one has ended. Calls that run at once share the events.
//
// At most 256 events wait for the caller. If more come, the oldest is dropped, and a gap with the
// number of dropped events takes its place.
func (s *TopicSubscription) Events(ctx context.Context) iter.Seq[Received] {
	return func(yield func(Received) bool) {
		for ctx.Err() == nil {
			r, ok, changed := s.inbox.next()
			switch {
			case ok && !yield(r), !ok && changed == nil:
				return
			case ok:
				continue
			}
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
	}
}

// Err returns why the TopicSubscription has ended: the server's refusal (see Error), what gave
// the connection up, or shared.ErrClosed after the Client's Close. It is nil before, and if Close
// has ended the TopicSubscription. A refusal is final: ask again with another call of Topic. If the
// server refuses with ErrUnavailable, the Client itself asks again.
func (s *TopicSubscription) Err() error { return s.inbox.err() }

// Close ends the TopicSubscription, and drops what waits. If it was the last of its topic, the
// server is told to send no more. Close may be called again.
func (s *TopicSubscription) Close() {
	c := s.client
	c.mu.Lock()
	defer c.mu.Unlock()
	s.endLocked(nil)
	if _, hears := s.entry.subs[s]; !hears {
		return
	}
	delete(s.entry.subs, s)
	if len(s.entry.subs) == 0 {
		c.releaseTopicLocked(s.entry)
	}
}

func (s *TopicSubscription) readyLocked() {
	if !s.isReady {
		s.isReady = true
		close(s.ready)
	}
}

// endLocked ends the TopicSubscription, unless it has ended.
func (s *TopicSubscription) endLocked(why error) {
	s.inbox.end(why)
	s.readyLocked()
}
