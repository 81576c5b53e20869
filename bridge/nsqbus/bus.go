// Package nsqbus is NSQ behind bridge.Bus.
//
// Each entity type is a topic, each node an ephemeral channel of its own on it,
// on every nsqd, so that every node hears everything and nothing is kept for a
// node that is gone. An nsqd that is absent, at the start or later, is tried
// again until the bus is closed.
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

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/internal/wait"
	"github.com/entity-sync/entity-sync/shared"
)

// Bus is one node's place on an NSQ cluster.
type Bus struct {
	config     Config
	channel    string
	publishers []*publisher
	healthy    atomic.Int64 // which of them acknowledged last

	ctx    context.Context // ends when the bus closes
	cancel context.CancelFunc

	mu     sync.Mutex
	closed bool
	work   sync.WaitGroup
}

var _ bridge.Bus = (*Bus)(nil)

// New returns a bus, which connects when it is first used. Its errors are those
// of the configuration; an nsqd that cannot be reached is not one.
func New(c Config) (*Bus, error) {
	if err := c.withDefaults().validate(); err != nil {
		return nil, fmt.Errorf("nsqbus: %w", err)
	}
	b := &Bus{
		config:  c.withDefaults(),
		channel: "es-" + rand.Text() + "#ephemeral",
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	for _, addr := range c.Addrs {
		b.publishers = append(b.publishers, newPublisher(addr, b.config))
	}
	return b, nil
}

// Subscribe implements bridge.Bus.
func (b *Bus) Subscribe(entity shared.EntityType, l bridge.Listener) error {
	topic, err := b.config.topic(entity)
	if err != nil {
		return fmt.Errorf("nsqbus: %w", err)
	}
	sub := &subscription{bus: b, topic: topic, listener: l}
	for _, addr := range b.config.Addrs {
		if !b.start(func() { sub.run(b.ctx, addr) }) {
			return shared.ErrClosed
		}
	}
	return nil
}

// Between two rounds of attempts to publish there is a short wait, and after
// publishGrace the attempts end even if the context would allow more: an nsqd
// being restarted is waited for, one that is down does not hold up every write
// of the application for as long as its patience lasts.
const (
	publishPause = 20 * time.Millisecond
	publishGrace = 500 * time.Millisecond
)

// Publish implements bridge.Bus: it tries every nsqd until one acknowledges,
// first the one that did last time.
func (b *Bus) Publish(ctx context.Context, entity shared.EntityType, body []byte) error {
	topic, err := b.config.topic(entity)
	if err != nil {
		return fmt.Errorf("nsqbus: %w", err)
	}
	for end := time.Now().Add(publishGrace); ; {
		err := b.publishToAny(ctx, topic, body)
		if err == nil || errors.Is(err, shared.ErrClosed) || isPermanent(err) {
			return err
		}
		select {
		case <-time.After(publishPause):
		case <-ctx.Done():
		}
		if ctx.Err() != nil || time.Now().After(end) {
			return fmt.Errorf("nsqbus: %w: %w", shared.ErrUnavailable, err)
		}
	}
}

// publishToAny tries each nsqd once, giving each its share of the time left.
func (b *Bus) publishToAny(ctx context.Context, topic string, body []byte) error {
	var errs []error
	first := int(b.healthy.Load())
	for i := range b.publishers {
		n := (first + i) % len(b.publishers)
		p := b.publishers[n]
		if !b.startOnce(p) {
			return shared.ErrClosed
		}
		ctx, cancel := share(ctx, len(b.publishers)-i)
		err := p.publish(ctx, topic, body)
		cancel()
		if err == nil {
			b.healthy.Store(int64(n))
			return nil
		}
		if errors.Is(err, shared.ErrClosed) {
			return err
		}
		errs = append(errs, fmt.Errorf("%s: %w", p.addr, err))
		if isPermanent(err) {
			break
		}
	}
	return errors.Join(errs...)
}

// share returns a context with one n-th of the time that ctx has left.
func share(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if !ok || n == 1 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(end)/time.Duration(n))
}

// start runs work in a goroutine that Close waits for, unless the bus is closed.
func (b *Bus) start(work func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.work.Go(work)
	return true
}

func (b *Bus) startOnce(p *publisher) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	if !p.started {
		p.started = true
		b.work.Go(func() { p.run(b.ctx) })
	}
	return true
}

// Close implements bridge.Bus.
func (b *Bus) Close(ctx context.Context) error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.cancel()
	if err := wait.For(ctx, &b.work); err != nil {
		return fmt.Errorf("nsqbus: leaving NSQ: %w", err)
	}
	return nil
}
