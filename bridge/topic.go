package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/entity-sync/entity-sync/shared"
)

// Topic is what nodes tell each other besides changes: texts, carried and audited
// as the ids of keys are. Its functions return at once: with a bus within the process
// whoever tells waits for them.
type Topic struct {
	// Hear takes each text, at times one twice, those of this node among them.
	Hear func(text string)

	// Missed says that texts may have been missed, as at first.
	Missed func()
}

// RegisterTopic starts listening to a topic, whose name is as an entity type's.
// Several may listen to one. Its errors are those of Register. Clients cannot
// subscribe to it, and Ready does not wait for it.
func (b *Bridge) RegisterTopic(name shared.EntityType, t Topic) error {
	ent := &entity{bridge: b, name: name, fetch: nothing, options: EntityOptions{}.withDefaults()}
	ent.topics.Store(&[]Topic{t})
	if err := name.Validate(); err != nil {
		return fmt.Errorf("bridge: registering the topic %.80q: %w", string(name), err)
	}
	err := b.add(ent)
	if errors.Is(err, shared.ErrDuplicateEntity) {
		err = b.addListener(name, t)
	} else if err == nil {
		if err = b.bus.Subscribe(name, ent); err != nil {
			b.remove(ent)
		}
	}
	if err != nil {
		return fmt.Errorf("bridge: registering the topic %q: %w", name, err)
	}
	return nil
}

// addListener adds one to a topic that is there already.
func (b *Bridge) addListener(name shared.EntityType, t Topic) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	ent := b.entities[name]
	if ent == nil || ent.listeners() == nil {
		return shared.ErrDuplicateEntity
	}
	more := append(slices.Clip(ent.listeners()), t)
	ent.topics.Store(&more)
	return nil
}

// listeners returns who listens to the topic; none where the entity is an entity
// type, with views.
func (e *entity) listeners() []Topic {
	if topics := e.topics.Load(); topics != nil {
		return *topics
	}
	return nil
}

// nothing is the fetch handler of topics, and of what is only announced: no client can
// subscribe to either.
func nothing(context.Context, []shared.Request) []shared.Result { return nil }

// Tell publishes texts on a topic that was registered, as Notify does keys: when
// it returns nil, every node hears the texts, or that it may have missed some.
func (b *Bridge) Tell(ctx context.Context, topic shared.EntityType, texts ...string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("telling: %w", err)
	}
	keys := make([]shared.EntityKey, len(texts))
	for i, text := range texts {
		keys[i] = shared.EntityKey{Entity: topic, ID: text}
	}
	return b.notify(ctx, keys, true)
}

// ownPrefix is what the names of the system's own topics begin with. They are for no
// entity type, on any process: nodes obey what is said there.
const ownPrefix = "es."

// validate returns an error wrapping shared.ErrBadEntity unless name can be that of an
// entity type.
func validate(name shared.EntityType) error {
	if strings.HasPrefix(string(name), ownPrefix) {
		return fmt.Errorf("%w: names that begin with %q are the system's own", shared.ErrBadEntity, ownPrefix)
	}
	return name.Validate()
}
