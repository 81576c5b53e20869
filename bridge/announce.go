package bridge

import (
	"context"
	"errors"
	"fmt"

	"github.com/entity-sync/entity-sync/shared"
)

// Announce makes an entity type known to Notify and to nothing else: this node does not
// subscribe to the type on the bus, has no fetch handler for it, and refuses a client's
// subscription with shared.ErrUnknownEntity. Notify promises the same as for a type that
// is registered, whose rows other nodes fetch.
//
// It changes nothing where the type is registered or announced already, and the type
// may be registered later. It returns an error wrapping shared.ErrBadEntity for a name
// that cannot be a topic, or is for the system's own.
func (b *Bridge) Announce(name shared.EntityType) error {
	if err := b.announce(name); err != nil {
		return fmt.Errorf("bridge: announcing %.80q: %w", string(name), err)
	}
	return nil
}

func (b *Bridge) announce(name shared.EntityType) error {
	if err := validate(name); err != nil {
		return err
	}
	if err := b.feeds.Prepare(name); err != nil {
		return err
	}
	err := b.add(&entity{bridge: b, name: name, fetch: nothing, options: EntityOptions{}.withDefaults(), announced: true})
	if known, _ := b.entity(name); known != nil && errors.Is(err, shared.ErrDuplicateEntity) {
		return nil // Notify knows it already
	}
	return err
}

// nothing is the fetch handler of what is only announced: no client can subscribe to it.
func nothing(context.Context, []shared.FetchRequest) []shared.FetchResult { return nil }

// replaces reports whether e may be registered in the place of old: an entity type that
// was only announced until now.
func (e *entity) replaces(old *entity) bool { return old.announced && !e.announced }
