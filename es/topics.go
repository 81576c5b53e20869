package es

import (
	"context"
	"fmt"
	"time"

	"github.com/entity-sync/entity-sync/bridge/events"
	"github.com/entity-sync/entity-sync/shared"
)

// ChannelOption changes the rule of one channel.
type ChannelOption func(*events.Channel)

// Public lets every client subscribe, without asking Config.Authorize.
func Public() ChannelOption { return func(c *events.Channel) { c.Public = true } }

// ClientsPublish lets clients publish, where Config.Authorize does or there is none.
func ClientsPublish() ChannelOption { return func(c *events.Channel) { c.ClientsPublish = true } }

// Latest says that of a topic's events that wait for a client the newest alone counts: for
// cursors, typing, progress.
func Latest() ChannelOption { return func(c *events.Channel) { c.Latest = true } }

// Keep has every node remember the last n events of each topic for d, for clients that come back
// and name the last event that they have.
func Keep(n int, d time.Duration) ChannelOption {
	return func(c *events.Channel) { c.Keep, c.KeepFor = n, d }
}

// EventSource and EventType are those of the events that Publish makes of data. Without them they
// are the topic, as "/news/uk", and "event".
func EventSource(source string) ChannelOption {
	return func(c *events.Channel) { c.Source = source }
}

// EventType is said at EventSource.
func EventType(name string) ChannelOption { return func(c *events.Channel) { c.Type = name } }

// RegisterChannel makes topics known whose first segment is name, or with "*" those of no other
// channel. Without an option the channel is closed: clients subscribe where Config.Authorize
// lets them, and do not publish. Register a channel on every node whose clients subscribe to its
// topics.
//
// It returns an error wrapping shared.ErrBadTopic for a name that can be no segment, and
// shared.ErrDuplicateChannel the second time.
func RegisterChannel(s *EntitySync, name string, opts ...ChannelOption) error {
	var c events.Channel
	for _, option := range opts {
		option(&c)
	}
	if err := s.Bridge.Events().Register(name, c); err != nil {
		return fmt.Errorf("es: %w", err)
	}
	return nil
}

// Publish makes an event of data and hands it to the clients of all nodes that are subscribed to
// the topic or to one above it. When it returns nil, each client whose subscription was
// acknowledged before, and that stays connected, gets the event once, in this node's order, or is
// told of a gap in its place. Data is sent as JSON.
//
// It waits for the bus no longer than ctx and Config.Bridge.PublishTimeout allow. It returns an
// error wrapping shared.ErrBadTopic, ErrUnknownTopic, ErrBadEvent, ErrTooLarge or ErrClosed; or
// ErrUnavailable, after which the event may have got through all the same.
func (s *EntitySync) Publish(ctx context.Context, topic shared.Topic, data any) error {
	hub := s.Bridge.Events()
	e, err := hub.NewEvent(topic, data)
	if err != nil {
		return fmt.Errorf("publishing an event: %w", err)
	}
	return hub.Publish(ctx, events.Publication{Topics: []shared.Topic{topic}, Event: e})
}

// PublishEvent is Publish for a CloudEvent of the application's own, which is delivered as it is,
// to one topic or up to 16.
func (s *EntitySync) PublishEvent(ctx context.Context, e shared.Event, topics ...shared.Topic) error {
	return s.Bridge.PublishEvent(ctx, e, topics...)
}

// Listen has the application itself hear a topic and everything below it, from its own node and
// from others. f is called for one event after the other, from a goroutine of its own, until
// stop is called or the node is closed. stop waits for the call under way, so f must not call
// it. A listener that does not keep up with 1,024 events misses the oldest, and is told.
func (s *EntitySync) Listen(topic shared.Topic, f func(events.Received)) (stop func(), err error) {
	stop, err = s.Bridge.Events().Listen(topic, events.Options{}, f)
	if err != nil {
		return nil, fmt.Errorf("es: listening to %.80q: %w", string(topic), err)
	}
	return stop, nil
}
