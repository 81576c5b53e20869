// Package nsqbus is NSQ behind bus.Bus.
//
// Each entity type is a topic. On every nsqd each node has an ephemeral channel of
// its own on the topic, so that every node hears every message and nothing is kept
// for a node that is gone. An nsqd that is absent, at the start or later, is tried
// again until the bus is closed.
//
// With Config.SharedTopic all entity types share one topic, which costs fewer
// connections. With Config.LookupAddrs the bus asks nsqlookupd for the addresses of
// the nsqd. It goes on without an answer while nsqlookupd is down. A node subscribes
// on an nsqd as soon as it has found it, and publishes there only after the other
// nodes have had time to find it too.
//
// Every nsqd must run with --mem-queue-size of 10,000 (its default) or more: an
// ephemeral channel silently drops what does not fit.
package nsqbus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/internal/field"
	"github.com/entity-sync/entity-sync/internal/wait"
	"github.com/entity-sync/entity-sync/shared"
)

// Bus is one node's place on an NSQ cluster.
type Bus struct {
	config  Config
	channel string
	healthy atomic.Pointer[broker] // the broker that acknowledged last

	ctx    context.Context // ends when the bus closes
	cancel context.CancelFunc

	mu            sync.Mutex
	closed        bool
	discovering   bool
	subscriptions map[string]*subscription // by topic
	cluster       cluster
	work          sync.WaitGroup
	spreading     sync.WaitGroup // the part of work that Spread began
}

var (
	_ bus.Bus      = (*Bus)(nil)
	_ bus.Preparer = (*Bus)(nil)
	_ bus.Spreader = (*Bus)(nil)
	_ bus.Surveyor = (*Bus)(nil)
)

// New returns a bus, which connects when it is first used. It returns an error for a
// bad configuration, and none for an nsqd that cannot be reached.
func New(c Config) (*Bus, error) {
	if err := c.withDefaults().validate(); err != nil {
		return nil, field.In("nsqbus.Config", err)
	}
	b := &Bus{
		config:        c.withDefaults(),
		channel:       "es-" + rand.Text() + "#ephemeral",
		subscriptions: make(map[string]*subscription),
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	for _, addr := range c.Addrs {
		b.add(addr, true)
	}
	return b, nil
}

// Prepare implements bus.Preparer.
func (b *Bus) Prepare(entity shared.EntityType) error {
	if _, err := b.config.topic(entity); err != nil {
		return fmt.Errorf("nsqbus: %w", err)
	}
	return nil
}

// Subscribe implements bus.Bus.
func (b *Bus) Subscribe(entity shared.EntityType, l bus.Listener) error {
	topic, err := b.config.topic(entity)
	if err != nil {
		return fmt.Errorf("nsqbus: %w", err)
	}
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return shared.ErrClosed
	}
	b.discover()
	sub := b.subscriptions[topic]
	if sub == nil {
		sub = newSubscription(b, topic)
		sub.add(entity, l) // before it can hear anything; l is not called yet
		b.subscriptions[topic] = sub
		for _, br := range b.cluster.brokers {
			b.work.Go(func() { sub.run(br) })
		}
		b.mu.Unlock()
		return nil
	}
	b.work.Add(1) // for Close to wait for the call of l
	b.mu.Unlock()
	defer b.work.Done()
	sub.add(entity, l)
	return nil
}

// Publish tries the nsqd in rounds, with publishPause between two. It begins no round
// after publishGrace, even if its context allows more. An nsqd that restarts is thus
// waited for, and one that is down does not hold up each write of the application until
// the deadline of the write.
const (
	publishPause = 20 * time.Millisecond
	publishGrace = 500 * time.Millisecond
)

// Publish implements bus.Bus: it tries every nsqd until one acknowledges,
// first the one that did last time.
//
// On a shared topic body must be JSON that names entity in its field "entity".
func (b *Bus) Publish(ctx context.Context, entity shared.EntityType, body []byte) error {
	topic, err := b.config.topicFor(entity, body)
	if err != nil {
		return fmt.Errorf("nsqbus: %w", err)
	}
	_, err = b.publish(ctx, topic, body)
	return err
}

// publish returns the nsqd that acknowledged.
func (b *Bus) publish(ctx context.Context, topic string, body []byte) (*broker, error) {
	for end := time.Now().Add(publishGrace); ; {
		br, err := b.publishToAny(ctx, topic, body)
		if err == nil || errors.Is(err, shared.ErrClosed) || isPermanent(err) {
			return br, err
		}
		select {
		case <-time.After(publishPause):
		case <-ctx.Done():
		}
		if ctx.Err() != nil || time.Now().After(end) {
			return nil, fmt.Errorf("nsqbus: %w: %w", shared.ErrUnavailable, err)
		}
	}
}

// publishToAny tries each nsqd once, giving each its share of the time left.
func (b *Bus) publishToAny(ctx context.Context, topic string, body []byte) (*broker, error) {
	brokers, err := b.publishOrder(topic)
	if err != nil {
		return nil, err
	}
	errs := make([]error, 0, len(brokers))
	for i, br := range brokers {
		ctx, cancel := share(ctx, len(brokers)-i)
		err := br.publisher.publish(ctx, topic, body)
		cancel()
		if err == nil {
			b.healthy.Store(br)
			return br, nil
		}
		if b.ctx.Err() != nil {
			return nil, shared.ErrClosed
		}
		errs = append(errs, fmt.Errorf("%s: %w", br.addr, err))
		if isPermanent(err) {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// maxShares is among how many nsqd at most the time is divided. The first nearly always
// answers: it must not be given up early because there are many more.
const maxShares = 4

// share returns a context with one n-th of the time that ctx has left, a
// quarter of it at least.
func share(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if !ok || n == 1 {
		return ctx, func() {} // there is nothing to cancel
	}
	return context.WithTimeout(ctx, time.Until(end)/time.Duration(min(n, maxShares)))
}

// Close implements bus.Bus.
func (b *Bus) Close(ctx context.Context) error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	_ = wait.For(ctx, &b.spreading) // b.cancel gives up those still under way
	b.cancel()
	if err := wait.For(ctx, &b.work); err != nil {
		return fmt.Errorf("nsqbus: leaving NSQ: %w", err)
	}
	return nil
}
