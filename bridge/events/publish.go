package events

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/entity-sync/entity-sync/shared"
)

// Publication is one event, and where it goes.
type Publication struct {
	Topics []shared.Topic // 1 to 16
	Event  shared.Event

	// Except is a client of this node that is not to hear the event, as its publisher. Nil
	// means that all hear it.
	Except *Client
}

// Publish hands an event to the clients of all nodes that are subscribed to one of its topics,
// or to one above. When it returns nil, each client whose subscription was acknowledged before
// and that stays connected gets the event once, in this node's order, or a gap in its place.
//
// It waits for the bus no longer than ctx and the bus's time allow. It returns an error wrapping
// shared.ErrBadTopic, ErrUnknownTopic, ErrBadEvent, ErrTooLarge or ErrClosed; or
// ErrUnavailable, after which the event may have got through all the same.
func (h *Hub) Publish(ctx context.Context, p Publication) error {
	if err := h.publish(ctx, p); err != nil {
		return fmt.Errorf("publishing an event: %w", err)
	}
	return nil
}

func (h *Hub) publish(ctx context.Context, p Publication) error {
	if err := validateTopics(p.Topics); err != nil {
		return err
	}
	for _, topic := range p.Topics {
		if _, err := h.Rule(topic); err != nil {
			return err
		}
	}
	if p.Event.IsZero() {
		return fmt.Errorf("%w: there is none", shared.ErrBadEvent)
	}
	except := uint64(0)
	if p.Except != nil {
		except = p.Except.number
	}
	record, err := encodeRecord(p.Topics, p.Event, except)
	if err != nil {
		return fmt.Errorf("%w: %w", shared.ErrBadEvent, err)
	}
	if err := h.config.Stream.Publish(ctx, record); err != nil {
		return err
	}
	h.counts.published.Add(1)
	return nil
}

// validateTopics returns an error wrapping shared.ErrBadTopic unless an event can be published
// to the topics together.
func validateTopics(topics []shared.Topic) error {
	if len(topics) == 0 || len(topics) > shared.MaxEventTopics {
		return fmt.Errorf("%w: an event has 1 to %d topics, not %d", shared.ErrBadTopic, shared.MaxEventTopics, len(topics))
	}
	for i, topic := range topics {
		if err := topic.Validate(); err != nil {
			return err
		}
		if slices.Contains(topics[:i], topic) {
			return fmt.Errorf("%w: %.80q is there twice", shared.ErrBadTopic, string(topic))
		}
	}
	return nil
}

// NewEvent makes an event of data, for a topic: its id names the node and a number, source and
// type are the channel's, the time is now. Data is encoded as JSON; that of type
// json.RawMessage is taken as it is, and nil is none. Its errors wrap shared.ErrBadTopic, ErrUnknownTopic,
// ErrBadEvent or ErrTooLarge.
func (h *Hub) NewEvent(topic shared.Topic, data any) (shared.Event, error) {
	c, err := h.Rule(topic)
	if err != nil {
		return shared.Event{}, err
	}
	var text json.RawMessage
	if data != nil {
		if text, err = json.Marshal(data); err != nil {
			return shared.Event{}, fmt.Errorf("%w: its data cannot be encoded: %w", shared.ErrBadEvent, err)
		}
	}
	f := shared.EventFields{
		ID: h.config.Node + "-" + strconv.FormatUint(h.made.Add(1), 10), Source: c.Source, Type: c.Type,
		Time: time.Now(), Data: text,
	}
	if f.Source == "" {
		f.Source = "/" + strings.ReplaceAll(string(topic), ".", "/")
	}
	if f.Type == "" {
		f.Type = "event"
	}
	return shared.NewEvent(f)
}
