package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/shared"
)

// Config is what a Bridge is made of.
type Config struct {
	// Bus carries notifications between nodes. Required. The Bridge owns it
	// from then on and closes it.
	Bus Bus

	// Fetch reads the rows of the entity types that RegisterEntityForSync adds.
	// Those added by Register bring a handler of their own.
	Fetch shared.Fetcher

	// PublishTimeout bounds how long Notify waits for the bus where the caller's
	// context allows more. Zero means 1 s.
	PublishTimeout time.Duration

	// Logger gets what an operator should know. Nil means slog.Default().
	// Secrets and rows are never logged.
	Logger *slog.Logger
}

const defaultPublishTimeout = time.Second

// Bridge is the engine of one node. Its methods may be called from any goroutine.
type Bridge struct {
	bus            Bus
	publishTimeout time.Duration
	fetch          shared.Fetcher // may be nil
	log            *slog.Logger
	index          *index
	counts         counts

	// ctx ends when the Bridge closes, and with it every fetch.
	ctx    context.Context
	cancel context.CancelFunc

	mu       sync.RWMutex // guards what follows; taken last
	entities map[shared.EntityType]*entity
	closed   bool
	work     sync.WaitGroup // workers, and clients' pumps
}

// New returns a Bridge on the given bus.
func New(c Config) (*Bridge, error) {
	if c.Bus == nil {
		return nil, errors.New("bridge: Config.Bus is nil")
	}
	if c.PublishTimeout < 0 {
		return nil, fmt.Errorf("bridge: Config.PublishTimeout is %v, want more than 0", c.PublishTimeout)
	}
	if c.PublishTimeout == 0 {
		c.PublishTimeout = defaultPublishTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Bridge{
		bus:            c.Bus,
		publishTimeout: c.PublishTimeout,
		fetch:          c.Fetch,
		log:            c.Logger,
		index:          newIndex(),
		ctx:            ctx,
		cancel:         cancel,
		entities:       make(map[shared.EntityType]*entity),
	}, nil
}

// Register says how the rows of an entity type are fetched, and starts
// listening for its changes. It returns an error wrapping shared.ErrBadEntity
// for a name that cannot be a topic, and shared.ErrDuplicateEntity the second
// time.
func (b *Bridge) Register(name shared.EntityType, fetch shared.Fetcher, o EntityOptions) error {
	if err := name.Validate(); err != nil {
		return fmt.Errorf("bridge: registering %.80q: %w", string(name), err)
	}
	if fetch == nil {
		return fmt.Errorf("bridge: registering %q: the fetch handler is nil", name)
	}
	if err := o.validate(); err != nil {
		return fmt.Errorf("bridge: registering %q: %w", name, err)
	}
	ent := &entity{bridge: b, name: name, fetcher: fetch, options: o.withDefaults()}
	ent.queue.entity = ent
	if err := b.add(ent); err != nil {
		return fmt.Errorf("bridge: registering %q: %w", name, err)
	}
	if err := b.bus.Subscribe(name, ent); err != nil {
		b.mu.Lock()
		delete(b.entities, name)
		b.mu.Unlock()
		return fmt.Errorf("bridge: registering %q: %w", name, err)
	}
	return nil
}

func (b *Bridge) add(ent *entity) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return shared.ErrClosed
	}
	if b.entities[ent.name] != nil {
		return shared.ErrDuplicateEntity
	}
	b.entities[ent.name] = ent
	return nil
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

func (b *Bridge) registered() []*entity {
	b.mu.RLock()
	defer b.mu.RUnlock()
	ents := make([]*entity, 0, len(b.entities))
	for _, ent := range b.entities {
		ents = append(ents, ent)
	}
	return ents
}

// Notify announces that the rows of keys changed. Call it after the write is
// committed. When it returns nil, every client of every node that stays
// subscribed to one of the keys ends up with rows from a fetch begun after this
// call.
//
// It waits for the bus no longer than ctx and Config.PublishTimeout allow. On an
// error some keys may have been announced and some not; this node's own clients
// are brought up to date either way. It is safe to call again.
func (b *Bridge) Notify(ctx context.Context, keys ...shared.EntityKey) error {
	ids := make(map[shared.EntityType][]string, 1)
	var errs []error
	for _, key := range keys {
		if err := b.check(key); err != nil {
			errs = append(errs, fmt.Errorf("notifying of a change of %.80q: %w", string(key.Entity), err))
			continue
		}
		ids[key.Entity] = append(ids[key.Entity], key.ID)
	}
	ctx, cancel := context.WithTimeout(ctx, b.publishTimeout)
	defer cancel()
	for name, ids := range ids {
		if err := b.publish(ctx, name, ids); err != nil {
			errs = append(errs, fmt.Errorf("notifying of a change of %q: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// check returns why a notification of key could reach nobody.
func (b *Bridge) check(key shared.EntityKey) error {
	if _, err := b.entity(key.Entity); err != nil {
		return err
	}
	return key.Validate()
}

func (b *Bridge) publish(ctx context.Context, name shared.EntityType, ids []string) error {
	bodies, err := encodeNotifications(name, ids)
	if err != nil {
		return err
	}
	for _, body := range bodies {
		if err := b.bus.Publish(ctx, name, body); err != nil {
			for _, id := range ids {
				b.index.mark(shared.EntityKey{Entity: name, ID: id}, causeNotified)
			}
			return err
		}
	}
	return nil
}

// startWorker runs work in a goroutine that Close waits for. It returns false
// when the Bridge is closed.
func (b *Bridge) startWorker(work func()) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.closed {
		return false
	}
	b.work.Go(work)
	return true
}

// Close leaves the bus, ends the context of every fetch, and waits for the
// handlers under way, no longer than ctx allows. Close the clients first. It
// may be called again, also at the same time.
func (b *Bridge) Close(ctx context.Context) error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.cancel()
	return errors.Join(b.bus.Close(ctx), waitFor(ctx, &b.work))
}

// waitFor waits for wg until ctx ends. Where ctx ends first, the goroutine that
// waits ends with the last one it waits for.
func waitFor(ctx context.Context, wg *sync.WaitGroup) error {
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("bridge: waiting for fetch handlers to return: %w", ctx.Err())
	}
}
