package bridge

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/entity-sync/entity-sync/internal/feed"
	"github.com/entity-sync/entity-sync/internal/sparing"
	"github.com/entity-sync/entity-sync/shared"
)

// Topic takes what nodes publish for each other besides changes. Its functions must return at
// once: a publisher waits for the functions of its own node.
type Topic struct {
	// Message takes each text, those of this node among them. It may be called twice with one
	// text.
	Message func(text string)

	// Gap says that texts may have been missed. It is called when the node begins to listen,
	// too.
	Gap func()
}

// topic is the feed's Listener of all that are registered for one topic.
type topic struct {
	bridge   *Bridge
	feed     *feed.Feed
	topics   atomic.Pointer[[]Topic] // replaced, never changed
	gapLines sparing.Period
}

// Changed implements feed.Listener.
func (t *topic) Changed(c feed.Change) {
	for _, to := range *t.topics.Load() {
		to.Message(c.ID)
	}
}

// Gap implements feed.Listener.
func (t *topic) Gap(g feed.Gap) {
	if g.Reason == feed.Disconnected {
		return // what is missed is said when it is known
	}
	for _, to := range *t.topics.Load() {
		to.Gap()
	}
	if g.Reason != feed.Connected {
		t.bridge.noteMissed(t.feed.Topic(), g, 0, &t.gapLines)
	}
}

// RegisterTopic starts listening to a topic, whose name follows the rules of an entity type's.
// Several Topics may listen to one name. The errors are those of Register. Clients cannot
// subscribe to the topic, and Ready does not wait for it.
func (b *Bridge) RegisterTopic(name shared.EntityType, t Topic) error {
	if err := b.registerTopic(name, t); err != nil {
		return fmt.Errorf("bridge: registering the topic %.80q: %w", string(name), err)
	}
	return nil
}

func (b *Bridge) registerTopic(name shared.EntityType, t Topic) error {
	if err := name.Validate(); err != nil {
		return err
	}
	known, err := b.addTopic(name, t)
	if known == nil {
		return err
	}
	if err := known.feed.Listen(known); err != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.topics, name)
		return err
	}
	return nil
}

// addTopic returns the topic where it is a new one.
func (b *Bridge) addTopic(name shared.EntityType, t Topic) (*topic, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return nil, shared.ErrClosed
	case b.entities[name] != nil:
		return nil, shared.ErrDuplicateEntity
	}
	if known := b.topics[name]; known != nil {
		more := append(slices.Clip(*known.topics.Load()), t)
		known.topics.Store(&more)
		return nil, nil
	}
	added := &topic{bridge: b, feed: b.feeds.SpreadTopic(name)}
	added.gapLines.Every = gapLinesEvery
	added.topics.Store(&[]Topic{t})
	b.topics[name] = added
	return added, nil
}

// Publish publishes texts on a registered topic, as Notify does keys. When Publish returns nil,
// every node hears the texts, or hears that it may have missed some.
func (b *Bridge) Publish(ctx context.Context, name shared.EntityType, texts ...string) error {
	if err := b.publish(ctx, name, texts); err != nil {
		return fmt.Errorf("publishing on %.80q: %w", string(name), err)
	}
	return nil
}

func (b *Bridge) publish(ctx context.Context, name shared.EntityType, texts []string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.RLock()
	t := b.topics[name]
	b.mu.RUnlock()
	if t == nil {
		return shared.ErrUnknownEntity
	}
	for _, text := range texts {
		if err := (shared.EntityKey{Entity: name, ID: text}).Validate(); err != nil {
			return err
		}
	}
	p := []feed.Publication{{Feed: t.feed, IDs: texts}}
	feed.Publish(ctx, p)
	return p[0].Err
}

// ownPrefix begins the names of the system's own topics. No process may use such a name for an
// entity type, because nodes act on what is published there.
const ownPrefix = "es."

// validate returns an error wrapping shared.ErrBadEntity unless name can be that of an
// entity type.
func validate(name shared.EntityType) error {
	if strings.HasPrefix(string(name), ownPrefix) {
		return fmt.Errorf("%w: names that begin with %q are the system's own", shared.ErrBadEntity, ownPrefix)
	}
	return name.Validate()
}
