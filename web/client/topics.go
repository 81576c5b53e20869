package client

import (
	"cmp"
	"slices"
	"time"

	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/wire"
)

// topicEntry is a topic that is subscribed to. The Client's mutex guards all of it.
type topicEntry struct {
	topic  shared.Topic
	number uint64 // in the order in which keys and topics were first wanted
	subs   map[*TopicSubscription]struct{}

	wasLive bool        // the server has acknowledged the topic once
	last    string      // id of the last event
	recent  []eventName // the last ones, by which a double is known
	next    int         // place in recent of the next event, once it is full

	// About the present connection.
	asked      bool // the topic was subscribed to, and the subscription has not ended
	askedExact bool // without what is below
	confirmed  bool // the server has acknowledged that
	exact      bool // what the server has acknowledged is without what is below

	// For a topic that the server cannot serve now.
	refusals int       // in a row
	waits    bool      // the topic is in its session's later
	due      time.Time // when to subscribe again
}

// maxRecent is how many events of a topic are known again. After a reconnect events may come
// again that came up to some seconds before the last one.
const maxRecent = 1024

// eventName names an event. The source alone decides what its ids mean.
type eventName struct{ source, id string }

// topicAsk is a topic in a request to subscribe.
type topicAsk struct {
	entry *topicEntry
	exact bool
	gap   bool // events may have been missed, and the server is not told which one was the last
}

// topicLists are the topics for which a session has something to do.
type topicLists struct {
	queue []*topicEntry // to subscribe to
	left  []*topicEntry // that nothing subscribes to any more
	later []*topicEntry // that were refused for now, until they are due
}

// disconnect forgets the connection.
func (e *topicEntry) disconnect() {
	e.asked, e.askedExact, e.confirmed, e.exact, e.waits = false, false, false, false, false
}

// wantsExact reports whether no TopicSubscription hears what is below.
func (e *topicEntry) wantsExact() bool {
	for s := range e.subs {
		if !s.exact {
			return false
		}
	}
	return true
}

// serves reports whether the server sends all that a TopicSubscription hears.
func (e *topicEntry) serves(s *TopicSubscription) bool { return e.confirmed && (s.exact || !e.exact) }

// isRepeated notes an event, and reports whether it was among the last ones.
func (e *topicEntry) isRepeated(event shared.Event) bool {
	name := eventName{event.Source(), event.ID()}
	if slices.Contains(e.recent, name) {
		return true
	}
	if len(e.recent) < maxRecent {
		e.recent = append(e.recent, name)
	} else {
		e.recent[e.next] = name
		e.next = (e.next + 1) % maxRecent
	}
	e.last = name.id
	return false
}

// hear hands an event to the TopicSubscriptions.
func (e *topicEntry) hear(r Received) {
	if e.isRepeated(r.Event) {
		return
	}
	isExact := e.exact && e.askedExact // the server has left out what is below
	for s := range e.subs {
		if !s.exact || isExact || r.Topic == e.topic {
			s.inbox.put(r)
		}
	}
}

// miss tells the TopicSubscriptions that were told that they are served of missed events.
func (e *topicEntry) miss(n uint64) {
	for s := range e.subs {
		if s.isReady {
			s.inbox.put(Received{Topic: e.topic, Gap: true, Missed: n})
		}
	}
}

// askTopicLocked subscribes to a topic, now or once there is a connection, unless the server
// sends all of it already.
func (c *Client) askTopicLocked(e *topicEntry) {
	isEnough := e.asked && (!e.askedExact || e.wantsExact())
	if c.session == nil || isEnough || e.waits {
		return
	}
	c.session.topics.queue = append(c.session.topics.queue, e)
	c.session.wakeUp()
}

// releaseTopicLocked is releaseLocked for a topic.
func (c *Client) releaseTopicLocked(e *topicEntry) {
	if c.session == nil || !e.asked {
		c.forgetTopicLocked(e)
		return
	}
	c.session.topics.left = append(c.session.topics.left, e)
	c.session.wakeUp()
}

func (c *Client) forgetTopicLocked(e *topicEntry) {
	if c.topics[e.topic] == e {
		delete(c.topics, e.topic)
	}
}

// endTopicLocked ends the TopicSubscriptions of a topic.
func (c *Client) endTopicLocked(e *topicEntry, why error) {
	e.disconnect()
	c.forgetTopicLocked(e)
	for s := range e.subs {
		s.endLocked(why)
	}
}

func (c *Client) endTopicsLocked(why error) {
	for _, e := range c.topics {
		c.endTopicLocked(e, why)
	}
}

// disconnectTopicsLocked notes that the connection has ended.
func (c *Client) disconnectTopicsLocked() {
	for _, e := range c.topics {
		e.disconnect()
		if len(e.subs) == 0 {
			c.forgetTopicLocked(e)
		}
	}
}

// takeTopicsLocked empties the lists, and returns the messages that unsubscribe and subscribe.
func (s *session) takeTopicsLocked() (messages [][]byte) {
	c := s.client
	var texts [][]byte
	for _, e := range s.topics.left {
		if len(e.subs) > 0 || c.topics[e.topic] != e { // the topic is subscribed to again
			continue
		}
		c.forgetTopicLocked(e)
		if e.asked { // the subscription has not ended by itself
			e.disconnect()
			texts = append(texts, wire.TopicText(wire.Target{IsTopic: true, Topic: e.topic}))
		}
	}
	s.topics.left = nil
	if len(texts) > 0 {
		c.reviveLocked(isTooMany)
	}
	for len(texts) > 0 {
		n := wire.Fitting(texts, c.options.MaxMessageBytes)
		s.refs++
		messages = append(messages, wire.KeysRequest(wire.ActionUnsubscribe, s.refs, texts[:n]))
		texts = texts[n:]
	}

	asks := s.wantedTopicsLocked()
	for i, a := range asks {
		t := wire.Target{IsTopic: true, Topic: a.entry.topic, Exact: a.exact}
		if !a.entry.confirmed && a.entry.wasLive {
			t.After = a.entry.last
			asks[i].gap = t.After == ""
		}
		texts = append(texts, wire.TopicText(t))
	}
	for len(texts) > 0 {
		n := wire.Fitting(texts, c.options.MaxMessageBytes)
		s.refs++
		s.requests[s.refs] = request{topics: asks[:n]}
		messages = append(messages, wire.KeysRequest(wire.ActionSubscribe, s.refs, texts[:n]))
		texts, asks = texts[n:], asks[n:]
	}
	return messages
}

// wantedTopicsLocked is wantedLocked for topics.
func (s *session) wantedTopicsLocked() (asks []topicAsk) {
	for _, e := range s.topics.queue {
		exact := e.wantsExact()
		isEnough := e.asked && (!e.askedExact || exact)
		if len(e.subs) == 0 || isEnough || s.client.topics[e.topic] != e {
			continue
		}
		e.asked, e.askedExact = true, exact
		asks = append(asks, topicAsk{entry: e, exact: exact})
	}
	s.topics.queue = nil
	slices.SortFunc(asks, func(a, b topicAsk) int { return cmp.Compare(a.entry.number, b.entry.number) })
	return asks
}

// topicsAnsweredLocked acts on the answer to a request that subscribes to topics.
func (s *session) topicsAnsweredLocked(ref int, asks []topicAsk, answer wire.Reply) {
	if answer.Action == wire.ActionError {
		all := answer.Topic == "" && answer.Index == nil // the refusal names no topic
		if all {
			delete(s.requests, ref)
		}
		for i, a := range asks {
			if a.entry.asked && (all || answer.Topic == a.entry.topic || answer.Index != nil && *answer.Index == i) {
				s.refuseTopicLocked(a.entry, errorOf(answer))
			}
		}
		return
	}
	delete(s.requests, ref)
	for _, a := range asks {
		e := a.entry
		if !e.asked {
			continue
		}
		if a.gap {
			e.miss(0)
		}
		e.confirmed, e.exact, e.wasLive, e.refusals = true, a.exact, true, 0
		for sub := range e.subs {
			if e.serves(sub) {
				sub.readyLocked()
			}
		}
	}
}

// refuseTopicLocked notes that a topic is not subscribed to.
func (s *session) refuseTopicLocked(e *topicEntry, why *Error) {
	if why.Code != string(wire.CodeUnavailable) {
		s.client.endTopicLocked(e, why)
		return
	}
	e.disconnect()
	e.refusals++
	e.due, e.waits = time.Now().Add(askAgain.Delay(e.refusals)), true
	s.topics.later = append(s.topics.later, e)
	s.wakeUp()
}

// askDueTopicsLocked queues the topics that are due.
func (s *session) askDueTopicsLocked(now time.Time) {
	s.topics.later = slices.DeleteFunc(s.topics.later, func(e *topicEntry) bool {
		if e.due.After(now) {
			return false
		}
		e.waits = false
		s.topics.queue = append(s.topics.queue, e)
		return true
	})
}

// aboutTopicLocked acts on a reply about a topic or an event.
func (s *session) aboutTopicLocked(r wire.Reply) {
	c := s.client
	switch r.Action {
	case wire.ActionEvent:
		event, err := shared.ParseEvent(r.Event)
		for _, topic := range r.Context {
			switch e := c.topics[topic]; {
			case e == nil || !e.confirmed: // it is about a subscription that has ended since
			case err != nil: // no node sends that
				e.miss(0)
			default:
				e.hear(Received{Topic: r.Topic, Context: r.Context, Event: event})
			}
		}
	default:
		e := c.topics[r.Topic]
		if e == nil || !e.confirmed {
			return
		}
		if r.Action == wire.ActionUnsubscribed {
			s.refuseTopicLocked(e, errorOf(r))
		} else {
			e.miss(r.Missed)
		}
	}
}

// tooLargeEvent notes that an event was not read.
func (s *session) tooLargeEvent() {
	c := s.client
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.topics {
		if e.confirmed {
			e.miss(0) // the beginning of the message need not have all of its topics
		}
	}
}
