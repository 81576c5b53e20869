package client

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/wire"
)

// PublishOptions say how an event is published.
type PublishOptions struct {
	// NoEcho has the Client itself not hear the event.
	NoEcho bool
}

// Publish publishes data, as JSON, to a topic. The server makes an event of it; nil makes an
// event without data. When Publish returns nil, the server's bus has the event.
//
// Without a connection Publish returns ErrOffline: nothing is kept for later. A refusal is an
// *Error. After ErrUnavailable, which is also returned if the connection ends before the answer,
// and after ctx has ended, the event may have been published all the same.
func (c *Client) Publish(ctx context.Context, topic shared.Topic, data any) error {
	p := wire.Publication{Topics: []shared.Topic{topic}}
	if data != nil {
		text, err := json.Marshal(data)
		if err != nil {
			return fmt.Errorf("client: %w: its data: %w", shared.ErrBadEvent, err)
		}
		p.Data = text
	}
	return c.publish(ctx, p)
}

// PublishEvent is Publish for a CloudEvent of the caller's own, which is delivered as it is, to
// one topic or up to 16.
func (c *Client) PublishEvent(ctx context.Context, e shared.Event, topics ...shared.Topic) error {
	return c.PublishEventWith(ctx, PublishOptions{}, e, topics...)
}

// PublishEventWith is PublishEvent with options.
func (c *Client) PublishEventWith(ctx context.Context, o PublishOptions, e shared.Event, topics ...shared.Topic) error {
	if e.IsZero() {
		return fmt.Errorf("client: %w: there is none", shared.ErrBadEvent)
	}
	return c.publish(ctx, wire.Publication{Topics: topics, Event: e.JSON(), NoEcho: o.NoEcho})
}

func (c *Client) publish(ctx context.Context, p wire.Publication) error {
	if n := len(p.Topics); n == 0 || n > shared.MaxEventTopics {
		return fmt.Errorf("client: %w: an event has 1 to %d topics, not %d", ErrBadRequest, shared.MaxEventTopics, n)
	}
	for _, topic := range p.Topics {
		if err := topic.Validate(); err != nil {
			return fmt.Errorf("client: %w", err)
		}
	}
	c.mu.Lock()
	s := c.session
	if s == nil {
		c.mu.Unlock()
		return fmt.Errorf("client: %w", ErrOffline)
	}
	s.refs++
	ref := s.refs
	message := wire.PublishRequest(ref, p)
	if len(message) > c.options.MaxMessageBytes { // the server would end the connection
		c.mu.Unlock()
		return fmt.Errorf("client: %w: the message has %d bytes, and Options.MaxMessageBytes is %d", shared.ErrTooLarge, len(message), c.options.MaxMessageBytes)
	}
	answer := make(chan error, 1)
	s.requests[ref] = request{published: answer}
	c.mu.Unlock()
	return s.await(ctx, ref, outgoing{message, make(chan error, 1)}, answer)
}

// await sends a request, and waits for its answer.
func (s *session) await(ctx context.Context, ref int, o outgoing, answer <-chan error) error {
	select {
	case s.out <- o:
	case <-s.ctx.Done():
		return fmt.Errorf("client: %w", ErrOffline)
	case <-ctx.Done():
		s.client.mu.Lock()
		delete(s.requests, ref) // there will be no answer
		s.client.mu.Unlock()
		return fmt.Errorf("client: %w", ctx.Err())
	}
	var err error
	select {
	case err = <-answer:
	case <-ctx.Done():
		err = ctx.Err()
	case <-s.ctx.Done():
		select {
		case err = <-answer:
		default:
			err = fmt.Errorf("%w: the connection ended before the answer", ErrUnavailable)
		}
	}
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	return nil
}
