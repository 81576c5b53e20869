package bridge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/bridge/events"
	"github.com/entity-sync/entity-sync/bridge/internal/schedule"
	"github.com/entity-sync/entity-sync/internal/feed"
	"github.com/entity-sync/entity-sync/internal/field"
	"github.com/entity-sync/entity-sync/internal/workerpool"
	"github.com/entity-sync/entity-sync/shared"
)

// Config is what a Bridge is made of.
type Config struct {
	// Bus carries notifications between nodes. Required. The Bridge owns it
	// from then on and closes it.
	Bus bus.Bus

	// Fetch reads the rows of the entity types that RegisterEntityForSync adds. An entity type
	// that Register adds brings a handler of its own.
	Fetch shared.Fetcher

	// PublishTimeout bounds how long Notify waits for the bus to take one message, where the
	// caller's context allows more. Notify splits very many keys into several messages. Zero
	// means 1 s.
	PublishTimeout time.Duration

	// BeatInterval is how often the node tells the other nodes the number of its last
	// notification. It tells them for each entity type that it has announced changes of, by way
	// of every broker. Zero means 4 s.
	BeatInterval time.Duration

	// MaxFetches bounds how many fetches run at once on this node, of all entity types
	// together. Half of these fetches are kept for entity types that have few running. Zero
	// means 256.
	MaxFetches int

	// Grace is how long a notification may arrive after later notifications before it counts as
	// lost. A lost notification is repaired within BeatInterval and Grace. Zero means 1 s.
	Grace time.Duration

	// Logger gets what an operator should know. Secrets and rows are never logged. Nil means
	// slog.Default().
	Logger *slog.Logger
}

const (
	defaultPublishTimeout = time.Second
	defaultBeatInterval   = 4 * time.Second
	defaultGrace          = time.Second
	defaultMaxFetches     = 256
)

func (c Config) withDefaults() Config {
	if c.PublishTimeout == 0 {
		c.PublishTimeout = defaultPublishTimeout
	}
	if c.BeatInterval == 0 {
		c.BeatInterval = defaultBeatInterval
	}
	if c.Grace == 0 {
		c.Grace = defaultGrace
	}
	if c.MaxFetches == 0 {
		c.MaxFetches = defaultMaxFetches
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c Config) validate() error {
	if c.Bus == nil {
		return field.Errorf("Bus", "is nil")
	}
	return cmp.Or(
		field.NotNegative("PublishTimeout", c.PublishTimeout),
		field.NotNegative("BeatInterval", c.BeatInterval),
		field.NotNegative("MaxFetches", c.MaxFetches),
		field.NotNegative("Grace", c.Grace),
	)
}

// Bridge is the engine of one node. Its methods may be called from any goroutine.
type Bridge struct {
	feeds   *feed.Node
	events  *events.Hub
	config  Config
	fetch   shared.Fetcher // may be nil
	log     *slog.Logger
	limit   *schedule.Limit // of the fetches of all entity types without one of their own
	workers workerpool.Pool // of fetches, and clients' pumps
	counts  counts
	lost    atomic.Int64 // entity types that have lost the bus

	// ctx ends when the Bridge closes, and with it every fetch.
	ctx    context.Context
	cancel context.CancelFunc

	mu       sync.RWMutex // guards what follows
	entities map[shared.EntityType]*entity
	topics   map[shared.EntityType]*topic
	closed   bool
}

// New returns a Bridge on the given bus.
func New(c Config) (*Bridge, error) {
	if err := c.validate(); err != nil {
		return nil, field.In("bridge.Config", err)
	}
	c = c.withDefaults()
	ctx, cancel := context.WithCancel(context.Background())
	b := &Bridge{
		config:   c,
		fetch:    c.Fetch,
		log:      c.Logger,
		limit:    schedule.NewLimit(c.MaxFetches),
		ctx:      ctx,
		cancel:   cancel,
		entities: make(map[shared.EntityType]*entity),
		topics:   make(map[shared.EntityType]*topic),
	}
	b.feeds = feed.NewNode(feed.Config{
		Bus: c.Bus, PublishTimeout: c.PublishTimeout, BeatInterval: c.BeatInterval, Grace: c.Grace,
		Position: b.counts.sequence.Load, Logger: c.Logger,
	})
	b.events = events.New(events.Config{
		Stream: b.feeds.Stream(eventsTopic), Node: b.feeds.Name(), Sequence: func() uint64 { return b.counts.sequence.Add(1) },
		Logger: c.Logger,
	})
	return b, nil
}

// eventsTopic is the topic on the bus that carries events.
const eventsTopic shared.EntityType = ownPrefix + "events"

// Events returns the node's channels and subscriptions to topics.
func (b *Bridge) Events() *events.Hub { return b.events }

// PublishEvent hands an event to the clients of all nodes that are subscribed to one of the
// topics, or to one above: see events.Hub.Publish.
func (b *Bridge) PublishEvent(ctx context.Context, e shared.Event, topics ...shared.Topic) error {
	return b.events.Publish(ctx, events.Publication{Topics: topics, Event: e})
}

// Channels returns the channels that are registered, in no order: first segments of topics, and
// events.AnyChannel.
func (b *Bridge) Channels() []string { return b.events.Channels() }

// Register says how the rows of an entity type are fetched, and starts listening for its
// changes. It returns an error wrapping shared.ErrBadEntity for a name that cannot be a topic,
// and shared.ErrDuplicateEntity for a type that is registered already. A type that was only
// announced (see Announce) may be registered.
func (b *Bridge) Register(name shared.EntityType, fetch shared.Fetcher, o EntityOptions) error {
	if fetch == nil {
		return fmt.Errorf("bridge: registering %.80q: the fetch handler is nil", string(name))
	}
	o.BatchSize = 1
	return b.RegisterBatch(name, eachByItself(fetch), o)
}

// RegisterBatch is Register for a handler that fetches several keys, or one key
// for several secrets, at once.
func (b *Bridge) RegisterBatch(name shared.EntityType, fetch shared.BatchFetcher, o EntityOptions) error {
	ent, err := b.newEntity(name, fetch, o)
	if err != nil {
		return fmt.Errorf("bridge: registering %.80q: %w", string(name), err)
	}
	if err := ent.feed.Listen(ent); err != nil {
		b.remove(ent)
		return fmt.Errorf("bridge: registering %q: %w", name, err)
	}
	if ent.options.Refresh > 0 {
		b.startWorker(ent.refresh)
	}
	return nil
}

func (b *Bridge) newEntity(name shared.EntityType, fetch shared.BatchFetcher, o EntityOptions) (*entity, error) {
	if err := validate(name); err != nil {
		return nil, err
	}
	if fetch == nil {
		return nil, errors.New("the fetch handler is nil")
	}
	if err := o.validate(); err != nil {
		return nil, err
	}
	ent := &entity{bridge: b, name: name, fetch: fetch, options: o.withDefaults()}
	return ent, b.add(ent)
}

func (b *Bridge) add(ent *entity) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return shared.ErrClosed
	}
	if b.topics[ent.name] != nil {
		return shared.ErrDuplicateEntity
	}
	if ent.before = b.entities[ent.name]; ent.before != nil && !ent.replaces(ent.before) {
		return shared.ErrDuplicateEntity
	}
	ent.index.init(ent)
	ent.feed = b.feeds.Topic(ent.name)
	ent.gapLines.Every = gapLinesEvery
	if !ent.announced {
		ent.schedule = b.newSchedule(ent)
	}
	b.entities[ent.name] = ent
	return nil
}

func (b *Bridge) newSchedule(ent *entity) *schedule.Schedule[*view] {
	c := schedule.Config[*view]{
		Workers: ent.options.Workers, BatchSize: ent.options.BatchSize, RepairRate: ent.options.ResyncRate,
		Limit: b.limit, Go: b.startWorker,
		Fetch: ent.fetchViews, Retry: (*view).tryNow, Late: (*view).suspectLate,
	}
	if limit := ent.options.Limit; limit != nil {
		c.Limit = limit.limit
	}
	return schedule.New(c)
}

func (b *Bridge) remove(ent *entity) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if ent.before != nil {
		b.entities[ent.name] = ent.before
	} else {
		delete(b.entities, ent.name)
	}
	ent.schedule.Close()
}

func (b *Bridge) entity(name shared.EntityType) (*entity, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	ent := b.entities[name]
	if ent == nil {
		return nil, shared.ErrUnknownEntity
	}
	return ent, nil
}

// Registered reports whether clients can subscribe to the entity type on this node.
func (b *Bridge) Registered(name shared.EntityType) bool {
	ent, err := b.entity(name)
	return err == nil && !ent.announced
}

func (b *Bridge) registered() []*entity {
	b.mu.RLock()
	defer b.mu.RUnlock()
	ents := make([]*entity, 0, len(b.entities))
	for _, ent := range b.entities {
		ents = append(ents, ent)
	}
	return ents
}

// EntityTypes returns the entity types that Notify knows, in no order: the registered types and
// the types that are only announced.
func (b *Bridge) EntityTypes() []shared.EntityType {
	ents := b.registered()
	names := make([]shared.EntityType, 0, len(ents))
	for _, ent := range ents {
		names = append(names, ent.name)
	}
	return names
}

// Notify announces that the rows of keys changed. Call Notify after the write is committed.
// When Notify returns nil, every client of every node that stays subscribed to one of the keys
// ends up with rows from a fetch that began after this call.
//
// Notify waits for the bus no longer than ctx allows. Notify gives up once the bus has taken no
// message of the entity type, the caller's or another's, for Config.PublishTimeout. A message
// has some 8 KiB, and each message has that time.
//
// On an error some keys may have been announced and some not: a *shared.NotAnnouncedError has
// the keys that the bus did not acknowledge. This node's own clients are brought up to date
// either way. It is safe to call Notify again, with those keys or with all keys.
func (b *Bridge) Notify(ctx context.Context, keys ...shared.EntityKey) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("notifying of changes: %w", err)
	}
	publications, errs := b.publicationsOf(keys)
	feed.Publish(ctx, publications)
	var left []shared.EntityKey
	for _, p := range publications {
		if p.Err == nil {
			continue
		}
		name := p.Feed.Topic()
		errs = append(errs, fmt.Errorf("notifying of a change of %q: %w", name, p.Err))
		for _, id := range p.IDs {
			left = append(left, shared.EntityKey{Entity: name, ID: id})
		}
	}
	if len(left) > 0 {
		return &shared.NotAnnouncedError{Keys: left, Err: errors.Join(errs...)}
	}
	return errors.Join(errs...)
}

// publicationsOf sorts keys by their entity types. Each error is of a key whose notification
// could reach no client.
func (b *Bridge) publicationsOf(keys []shared.EntityKey) (publications []feed.Publication, errs []error) {
	for n, key := range keys {
		i := slices.IndexFunc(publications, func(p feed.Publication) bool { return p.Feed.Topic() == key.Entity })
		var ent *entity
		var err error
		if i < 0 {
			ent, err = b.entity(key.Entity)
		}
		if err == nil {
			err = key.Validate()
		}
		if err == nil && i < 0 {
			i = len(publications)
			publications = append(publications, feed.Publication{Feed: ent.feed, IDs: make([]string, 0, len(keys)-n)})
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("notifying of a change of %.80q: %w", string(key.Entity), err))
			continue
		}
		publications[i].IDs = append(publications[i].IDs, key.ID)
	}
	return publications, errs
}

// startWorker runs work in a goroutine that Close waits for. It returns false
// when the Bridge is closed.
func (b *Bridge) startWorker(work func()) bool {
	return b.workers.Go(work)
}

// Close waits for notifications under way, ends the context of every fetch, leaves the
// bus, and waits for the handlers, all no longer than ctx allows. Close
// the clients first. It may be called again, also at the same time.
func (b *Bridge) Close(ctx context.Context) error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.workers.Refuse()
	for _, ent := range b.registered() {
		if !ent.announced {
			ent.schedule.Close()
		}
	}
	err := b.feeds.StopPublishing(ctx)
	b.cancel()
	if err = errors.Join(err, b.feeds.Close(ctx), b.events.Close(ctx), b.workers.Close(ctx)); err != nil {
		return fmt.Errorf("bridge: waiting for what is under way: %w", err)
	}
	return nil
}
