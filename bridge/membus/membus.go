// Package membus is a bus.Bus within one process: for a service that runs as
// a single node, and for tests.
package membus

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/internal/wait"
	"github.com/entity-sync/entity-sync/shared"
)

// Broker joins the nodes of one process. The zero value is ready to use.
type Broker struct {
	mu    sync.Mutex
	nodes map[*Node]struct{}
	down  bool
}

// Node is one node's bus. Publish calls the listeners of every node of the
// broker before it returns, in the caller's goroutine.
type Node struct {
	broker    *Broker
	listeners map[shared.EntityType][]bus.Listener // guarded by broker.mu
	// calls counts the listener calls under way, for Close to wait for.
	calls sync.WaitGroup
}

var _ bus.Bus = (*Node)(nil)

var errDown = errors.New("the broker is down")

// NewNode joins a new node to the broker.
func (b *Broker) NewNode() *Node {
	n := &Node{broker: b, listeners: make(map[shared.EntityType][]bus.Listener)}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.nodes == nil {
		b.nodes = make(map[*Node]struct{})
	}
	b.nodes[n] = struct{}{}
	return n
}

// SetDown(true) makes the broker refuse to publish, like one that cannot be reached.
// SetDown(false) ends that. The listeners of all nodes are told.
func (b *Broker) SetDown(down bool) {
	tell := bus.Listener.Live
	if down {
		tell = func(l bus.Listener) { l.Lost(errDown) }
	}
	b.mu.Lock()
	if b.down == down {
		b.mu.Unlock()
		return
	}
	b.down = down
	called := b.collect(func(n *Node) (ls []bus.Listener) {
		for _, l := range n.listeners {
			ls = append(ls, l...)
		}
		return ls
	})
	b.mu.Unlock()
	called.each(tell)
}

// Publish implements bus.Bus.
func (n *Node) Publish(ctx context.Context, entity shared.EntityType, body []byte) error {
	if err := entity.Validate(); err != nil {
		return fmt.Errorf("membus: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("membus: %w", err)
	}
	b := n.broker
	b.mu.Lock()
	if _, open := b.nodes[n]; !open {
		b.mu.Unlock()
		return shared.ErrClosed
	}
	if b.down {
		b.mu.Unlock()
		return fmt.Errorf("membus: %w: %w", shared.ErrUnavailable, errDown)
	}
	called := b.collect(func(n *Node) []bus.Listener { return n.listeners[entity] })
	b.mu.Unlock()
	called.each(func(l bus.Listener) { l.Message(body) })
	return nil
}

// Subscribe implements bus.Bus.
func (n *Node) Subscribe(entity shared.EntityType, l bus.Listener) error {
	if err := entity.Validate(); err != nil {
		return fmt.Errorf("membus: %w", err)
	}
	b := n.broker
	b.mu.Lock()
	if _, open := b.nodes[n]; !open {
		b.mu.Unlock()
		return shared.ErrClosed
	}
	n.listeners[entity] = append(n.listeners[entity], l)
	down := b.down
	n.calls.Add(1)
	b.mu.Unlock()
	defer n.calls.Done()
	if !down {
		l.Live()
	}
	return nil
}

// Close implements bus.Bus.
func (n *Node) Close(ctx context.Context) error {
	b := n.broker
	b.mu.Lock()
	delete(b.nodes, n)
	b.mu.Unlock()
	if err := wait.For(ctx, &n.calls); err != nil {
		return fmt.Errorf("membus: waiting for listeners to return: %w", err)
	}
	return nil
}

// calls is a list of listeners to call without the broker's lock.
type calls []call

type call struct {
	node     *Node
	listener bus.Listener
}

// collect lists the listeners that of picks from each node. It counts each as a call
// under way, so that Close waits for it. The caller holds b.mu.
func (b *Broker) collect(of func(*Node) []bus.Listener) (cs calls) {
	for n := range b.nodes {
		for _, l := range of(n) {
			n.calls.Add(1)
			cs = append(cs, call{n, l})
		}
	}
	return cs
}

func (cs calls) each(f func(bus.Listener)) {
	for _, c := range cs {
		c.with(f)
	}
}

func (c call) with(f func(bus.Listener)) {
	defer c.node.calls.Done() // also where a listener panics
	f(c.listener)
}
