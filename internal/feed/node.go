package feed

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/internal/sparing"
	"github.com/entity-sync/entity-sync/internal/wait"
	"github.com/entity-sync/entity-sync/internal/workerpool"
	"github.com/entity-sync/entity-sync/shared"
)

// Config configures a Node. All fields are required.
type Config struct {
	Bus bus.Bus // the Node closes it

	// PublishTimeout bounds how long a call waits for the bus to take a message.
	PublishTimeout time.Duration

	// BeatInterval is how often the node publishes its last numbers.
	BeatInterval time.Duration

	// Grace is how long a message may be overtaken by later ones before it counts as lost.
	Grace time.Duration

	// Position returns a number that tells how far the node's own work has come, and never
	// goes back. See Gap.
	Position func() uint64

	Logger *slog.Logger
}

// Node is one process's place on the bus. Its methods may be called from any goroutine.
type Node struct {
	config      Config
	blocking    bool   // the bus may take longer than its context allows
	name        string // on the bus, different at every start
	lost        atomic.Uint64
	beating     sync.Once // guards the start of the node's beats
	badMessages sparing.Counter

	// ctx ends when the Node has closed.
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.RWMutex // taken after a publisher's
	feeds   map[shared.EntityType]*Feed
	closed  bool
	workers workerpool.Pool

	publishing sync.WaitGroup // workers and callers of Publish that are publishing
}

// NewNode returns a Node with no Feed yet.
func NewNode(c Config) *Node {
	ctx, cancel := context.WithCancel(context.Background())
	blocking, _ := c.Bus.(bus.Blocking)
	return &Node{
		config: c, blocking: blocking != nil && blocking.Blocks(), name: rand.Text(),
		ctx: ctx, cancel: cancel, feeds: make(map[shared.EntityType]*Feed),
	}
}

// Topic returns the Feed of a topic, which is made when it is first asked for.
func (n *Node) Topic(name shared.EntityType) *Feed { return n.topic(name, false) }

// SpreadTopic is Topic for messages that must not be late: each goes to every broker.
func (n *Node) SpreadTopic(name shared.EntityType) *Feed { return n.topic(name, true) }

func (n *Node) topic(name shared.EntityType, spread bool) *Feed {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.topicLocked(name, spread)
}

func (n *Node) topicLocked(name shared.EntityType, spread bool) *Feed {
	f := n.feeds[name]
	if f == nil {
		f = &Feed{node: n, topic: name}
		f.publish.feed, f.gaps.feed = f, f
		n.feeds[name] = f
	}
	f.spread.Store(spread) // as the last caller asks; the Feed goes on counting its messages
	return f
}

// Prepare makes a topic ready to be published on without Listen. It returns the bus's error
// if the bus could never accept the messages.
func (n *Node) Prepare(topic shared.EntityType) error {
	if preparer, ok := n.config.Bus.(bus.Preparer); ok {
		return preparer.Prepare(topic)
	}
	return nil
}

func (n *Node) all() []*Feed {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return slices.Collect(maps.Values(n.feeds))
}

// Stats is a Node's figures since its start.
type Stats struct {
	BadMessages uint64            // messages that could not be read
	Lost        uint64            // messages that did not arrive
	Refused     uint64            // messages that were sealed with no key of this node
	Brokers     []bus.BrokerStats // as they are now; none if the bus does not know
}

// Stats returns the figures as they are now.
func (n *Node) Stats() Stats {
	s := Stats{BadMessages: n.badMessages.Count(), Lost: n.lost.Load()}
	if surveyor, ok := n.config.Bus.(bus.Surveyor); ok {
		s.Brokers = surveyor.Survey()
	}
	if refuser, ok := n.config.Bus.(bus.Refuser); ok {
		s.Refused = refuser.Refused()
	}
	return s
}

// start runs work in a goroutine that Close waits for. It returns false if the Node is
// closed.
func (n *Node) start(work func()) bool {
	return n.workers.Go(work)
}

// startPublishing is start for work that publishes: Close lets it finish.
func (n *Node) startPublishing(work func()) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.closed {
		return false
	}
	n.publishing.Add(1)
	started := n.workers.Go(func() {
		defer n.publishing.Done()
		work()
	})
	if !started {
		n.publishing.Done()
	}
	return started
}

// joinPublishing has Close wait until publishing.Done is called. It returns false if the
// Node is closed.
func (n *Node) joinPublishing() bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.closed {
		return false
	}
	n.publishing.Add(1)
	return true
}

// StopPublishing refuses further publications, waits for those under way, no longer than ctx
// allows, and publishes the last numbers. The Node goes on hearing.
func (n *Node) StopPublishing(ctx context.Context) error {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.workers.Refuse()
	for _, f := range n.all() {
		f.close()
	}
	err := wait.For(ctx, &n.publishing)
	n.lastBeat(ctx)
	return err
}

// Close leaves the bus and waits for the Node's goroutines, no longer than ctx allows.
// StopPublishing comes before it. It may be called again, also at the same time.
func (n *Node) Close(ctx context.Context) error {
	n.cancel()
	return errors.Join(n.config.Bus.Close(ctx), n.workers.Close(ctx))
}
