package events

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/entity-sync/entity-sync/internal/field"
	"github.com/entity-sync/entity-sync/shared"
)

// AnyChannel registers the rule of all channels that have none of their own.
const AnyChannel = "*"

// Channel is the rule for all topics of one first segment. The zero Channel is closed: clients
// neither subscribe nor publish but where the application allows it.
type Channel struct {
	// Public lets every client subscribe.
	Public bool

	// ClientsPublish lets clients publish.
	ClientsPublish bool

	// Latest says that of the events of one topic that wait for a client the newest alone
	// counts, as of a cursor's places. Of an event of several topics nothing is left out.
	Latest bool

	// Keep is how many events of each topic every node remembers, and KeepFor how long, for
	// clients that come back. Zero means none.
	Keep    int
	KeepFor time.Duration

	// Source and Type are those of events that are made of data alone. Empty means the
	// topic, as "/news/uk", and "event".
	Source, Type string

	name string // as it is registered
}

func (c Channel) validate() error {
	switch {
	case c.Keep > 0 && c.KeepFor == 0:
		return field.Errorf("KeepFor", "is 0, want how long events are kept")
	case c.Keep == 0 && c.KeepFor > 0:
		return field.Errorf("Keep", "is 0, want how many events are kept")
	}
	return cmp.Or(field.NotNegative("Keep", c.Keep), field.NotNegative("KeepFor", c.KeepFor))
}

// Register adds a channel: all topics whose first segment is its name, or with AnyChannel those
// of no other channel. It returns the bus's error, or one wrapping shared.ErrBadTopic for a name that can be no
// segment, and shared.ErrDuplicateChannel the second time.
func (h *Hub) Register(name string, c Channel) error {
	if err := h.register(name, c); err != nil {
		return fmt.Errorf("events: registering the channel %.80q: %w", name, err)
	}
	return nil
}

func (h *Hub) register(name string, c Channel) error {
	if topic := shared.Topic(name); name != AnyChannel {
		if err := topic.Validate(); err != nil {
			return err
		}
		if topic.Channel() != name {
			return fmt.Errorf("%w: a channel is one segment, without a dot", shared.ErrBadTopic)
		}
	}
	if err := c.validate(); err != nil {
		return err
	}
	if err := h.start(); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, known := h.channels[name]; known {
		return shared.ErrDuplicateChannel
	}
	c.name = name
	h.channels[name] = c
	h.memory.registered()
	h.keeps = h.keeps || c.Keep > 0
	return nil
}

// Rule returns the rule for a topic, and an error wrapping shared.ErrBadTopic or
// ErrUnknownTopic. That of shared.Everything is closed.
func (h *Hub) Rule(topic shared.Topic) (Channel, error) {
	if err := topic.ValidateSubscription(); err != nil {
		return Channel{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if topic == shared.Everything {
		if len(h.channels) == 0 {
			return Channel{}, shared.ErrUnknownTopic
		}
		return Channel{}, nil
	}
	c, known := h.ruleLocked(topic)
	if !known {
		return Channel{}, shared.ErrUnknownTopic
	}
	return c, nil
}

// Channels returns the names that were registered, in no order.
func (h *Hub) Channels() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Keys(h.channels))
}

func (h *Hub) ruleLocked(topic shared.Topic) (c Channel, known bool) {
	if c, known = h.channels[topic.Channel()]; !known {
		c, known = h.channels[AnyChannel]
	}
	return c, known
}
