package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/shared"
)

// Bus lets people stop the board's NSQ and start it again, to see how their pages react.
// Whether it runs is an entity too, busEntity, so that all pages show the same.
type Bus struct {
	broker *Broker

	switching sync.Mutex // held while the bus is being stopped or started
	closed    bool

	mu    sync.Mutex
	nodes []*es.EntitySync
}

// theBus is the key of the bus's state.
var theBus = shared.EntityKey{Entity: busEntity, ID: "nsqd"}

// Register makes a node tell its pages whether the bus is running.
func (b *Bus) Register(node *es.EntitySync) error {
	b.mu.Lock()
	b.nodes = append(b.nodes, node)
	b.mu.Unlock()
	return es.Register(node, busEntity, func(_ context.Context, key shared.EntityKey, secret string) (busRow, error) {
		switch {
		case !RoleOf(secret).MaySee(key.Entity):
			return busRow{}, shared.ErrForbidden
		case key != theBus:
			return busRow{}, shared.ErrNotFound
		}
		return busRow{b.broker.Running()}, nil
	}, byRole)
}

// Switch starts or stops the bus, and tells every node. Its errors are fit for a page.
func (b *Bus) Switch(ctx context.Context, running bool) error {
	b.switching.Lock()
	defer b.switching.Unlock()
	if b.closed {
		return errors.New("the board is closing")
	}
	var err error
	if running {
		err = b.start(ctx)
	} else {
		err = b.stop()
	}
	b.tell(ctx)
	return err
}

// Close stops the bus for good.
func (b *Bus) Close() error {
	b.switching.Lock()
	defer b.switching.Unlock()
	b.closed = true
	return b.broker.Stop()
}

const (
	restartTimeout = 3 * time.Second
	restartPause   = 50 * time.Millisecond
)

// start starts the bus. Its port may be taken for a moment: the nodes connect from ports of
// the same range when they try to reach the bus.
func (b *Bus) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, restartTimeout)
	defer cancel()
	for {
		err := b.broker.Start()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the bus cannot be started: %w", err)
		case <-time.After(restartPause):
		}
	}
}

// stop stops the bus. Even after an error the nodes have lost it.
func (b *Bus) stop() error {
	if err := b.broker.Stop(); err != nil {
		return fmt.Errorf("the nodes have lost the bus, but it did not end cleanly: %w", err)
	}
	return nil
}

// tell announces the bus's state on each node, for the node's own pages: without the bus the
// nodes cannot tell each other.
func (b *Bus) tell(ctx context.Context) {
	b.mu.Lock()
	nodes := b.nodes
	b.mu.Unlock()
	var told sync.WaitGroup
	for _, node := range nodes {
		told.Go(func() { _ = node.Notify(ctx, theBus) })
	}
	told.Wait()
}
