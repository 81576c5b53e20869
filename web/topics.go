package web

import (
	"fmt"
	"log/slog"
	"slices"

	"github.com/entity-sync/entity-sync/bridge/events"
	"github.com/entity-sync/entity-sync/internal/eventqueue"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/wire"
)

var _ events.Sink = (*session)(nil)

// Event implements events.Sink.
func (s *session) Event(d *events.Delivery) { s.out.Event(queuedEvent{d, s.encoder}) }

// Gap implements events.Sink.
func (s *session) Gap(topic shared.Topic, missed uint64) { s.out.Gap(string(topic), missed) }

// Retract implements events.Sink.
func (s *session) Retract(topic shared.Topic) { s.out.Retract(string(topic)) }

// queuedEvent is an event as the send queue has it.
type queuedEvent struct {
	*events.Delivery
	encoder *encoder
}

var _ eventqueue.Event = queuedEvent{}

// Topics implements eventqueue.Event.
func (e queuedEvent) Topics() []string {
	topics := make([]string, len(e.Context))
	for i, topic := range e.Context {
		topics[i] = string(topic)
	}
	return topics
}

// Without implements eventqueue.Event.
func (e queuedEvent) Without(topic string) (eventqueue.Event, bool) {
	context := slices.DeleteFunc(slices.Clone(e.Context), func(t shared.Topic) bool { return string(t) == topic })
	d := &events.Delivery{Topic: e.Topic, Context: context, Event: e.Delivery.Event, Latest: e.Latest, Fence: e.Fence}
	return queuedEvent{d, e.encoder}, len(context) > 0
}

// Key implements eventqueue.Event.
func (e queuedEvent) Key() string {
	if e.Latest {
		return string(e.Topic)
	}
	return ""
}

// IsFence implements eventqueue.Event.
func (e queuedEvent) IsFence() bool { return e.Fence }

// Bytes implements eventqueue.Event.
func (e queuedEvent) Bytes() int { return len(e.Delivery.Event.JSON()) }

// Frame implements eventqueue.Event.
func (e queuedEvent) Frame() []byte { return e.Encoded(e.encoder) }

func (s *session) hub() *events.Hub { return s.handler.config.Bridge.Events() }

// rule returns the rule for a topic. Where a program has functions for clients there is none.
func (s *session) rule(topic shared.Topic) (events.Channel, error) {
	if s.handler.config.Bridge == nil {
		return events.Channel{}, shared.ErrUnknownTopic
	}
	return s.hub().Rule(topic)
}

// permitTopic returns an error unless the client may subscribe to a topic.
func (s *session) permitTopic(topic shared.Topic) error {
	if !s.waitForToken(&s.subscribes, "subscriptions") {
		return shared.ErrClosed
	}
	if err := topic.ValidateSubscription(); err != nil { // a refusal never sends a malformed topic back
		return err
	}
	id := s.who()
	if s.handler.config.RequireSecret && !id.known {
		return shared.ErrUnauthenticated
	}
	rule, err := s.rule(topic)
	if err != nil {
		return err
	}
	return s.authorizeTopic(id, topic, rule)
}

// authorizeTopic asks the application whether somebody may hear a topic, unless all may.
func (s *session) authorizeTopic(id identity, topic shared.Topic, rule events.Channel) error {
	switch {
	case rule.Public:
		return nil
	case s.handler.config.Authorize == nil:
		return shared.ErrForbidden
	}
	return s.ask(id, shared.AccessRequest{Action: shared.ActionSubscribe, Topic: topic})
}

// subscribeToTopic is changeSubscription for a topic.
func (s *session) subscribeToTopic(t wire.Target) error {
	topics := s.topics.Load()
	if topics == nil {
		topics = s.hub().NewClient(s)
		s.handler.rights.Begin()
		s.topics.Store(topics)
	}
	s.turn.Lock()
	defer s.turn.Unlock()
	had := topics.Has(t.Topic)
	if !had && s.isFull() {
		return shared.ErrTooManySubscriptions
	}
	err := topics.Subscribe(t.Topic, events.Options{Exact: t.Exact, After: t.After})
	if err != nil {
		return err
	}
	if s.handler.debugging() {
		s.handler.config.Logger.LogAttrs(s.handler.ctx, slog.LevelDebug, "subscribed to a topic", slog.Uint64("session", s.number))
	}
	if !had {
		s.observe(shared.AccessRequest{Action: shared.ActionSubscribe, Topic: t.Topic})
	}
	return nil
}

// publish publishes an event of the client's, and acknowledges that once the bus has it.
func (s *session) publish(r wire.Request) error {
	p := &r.Publication
	for i, topic := range p.Topics {
		err := topic.Validate()
		switch {
		case err != nil:
		case slices.Contains(p.Topics[:i], topic):
			err = fmt.Errorf("%w: it is there twice", shared.ErrBadTopic)
		default:
			err = s.mayPublish(topic, nil)
		}
		if err != nil {
			return wire.RefusalOf(err).AboutTopic(i, topic)
		}
	}
	event, err := s.eventOf(p)
	if err != nil {
		return wire.RefusalOf(err).AboutTopic(0, p.Topics[0])
	}
	for i, topic := range p.Topics {
		if err := s.mayPublish(topic, &event); err != nil {
			return wire.RefusalOf(err).AboutTopic(i, topic)
		}
	}
	publication := events.Publication{Topics: p.Topics, Event: event}
	if p.NoEcho {
		publication.Except = s.topics.Load()
	}
	if err := s.hub().Publish(s.handler.ctx, publication); err != nil {
		return wire.RefusalOf(err).AboutTopic(0, p.Topics[0])
	}
	for _, topic := range p.Topics {
		s.observe(shared.AccessRequest{Action: shared.ActionPublish, Topic: topic, Event: event})
	}
	s.reply(wire.Reply{Action: wire.ActionAck, Ref: r.Ref})
	return nil
}

func (s *session) eventOf(p *wire.Publication) (shared.Event, error) {
	if p.Event != nil {
		return shared.ParseEvent(p.Event)
	}
	var data any
	if p.Data != nil {
		data = p.Data
	}
	return s.hub().NewEvent(p.Topics[0], data)
}

// mayPublish returns an error unless the client may publish to a topic; the application is asked
// once there is an event.
func (s *session) mayPublish(topic shared.Topic, event *shared.Event) error {
	id := s.who()
	if s.handler.config.RequireSecret && !id.known {
		return shared.ErrUnauthenticated
	}
	rule, err := s.rule(topic)
	switch {
	case err != nil:
		return err
	case !rule.ClientsPublish:
		return shared.ErrForbidden
	case event == nil || s.handler.config.Authorize == nil:
		return nil
	}
	return s.ask(id, shared.AccessRequest{Action: shared.ActionPublish, Topic: topic, Event: *event})
}

// reauthorizeTopics ends the subscriptions to topics that the application does not allow the
// client under an identity.
func (s *session) reauthorizeTopics(id identity) {
	topics := s.topics.Load()
	if topics == nil {
		return
	}
	for _, topic := range topics.Topics() {
		if !s.waitForToken(&s.subscribes, "subscriptions") {
			return
		}
		if err := s.mayHear(id, topic); err != nil {
			if s.endTopic(topic) {
				s.sayUnsubscribed(topic, wire.RefusalOf(err))
			}
		}
	}
}

// mayHear returns an error unless the application lets somebody hear a topic.
func (s *session) mayHear(id identity, topic shared.Topic) error {
	rule, err := s.rule(topic)
	if err != nil {
		return err
	}
	return s.authorizeTopic(id, topic, rule)
}

// endTopic ends a subscription to a topic, and reports whether there was one.
func (s *session) endTopic(topic shared.Topic) bool {
	s.turn.Lock()
	defer s.turn.Unlock()
	topics := s.topics.Load()
	if topics == nil || !topics.Unsubscribe(topic) {
		return false
	}
	s.observe(shared.AccessRequest{Action: shared.ActionUnsubscribe, Topic: topic})
	return true
}

func (s *session) sayUnsubscribed(topic shared.Topic, why *wire.Refusal) {
	s.reply(wire.Reply{Action: wire.ActionUnsubscribed, Topic: topic, Code: why.Code, Message: why.Message})
}

// isFull reports whether the client has as many subscriptions to keys and topics together as it
// may have.
func (s *session) isFull() bool {
	most := s.handler.config.MaxSubscriptions
	return most > 0 && s.client.Len()+s.topics.Load().Len() >= most
}
