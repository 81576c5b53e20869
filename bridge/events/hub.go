package events

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/entity-sync/entity-sync/internal/feed"
	"github.com/entity-sync/entity-sync/internal/sparing"
	"github.com/entity-sync/entity-sync/internal/workerpool"
)

// Config is what a Hub is made of. All of it but Memory is required.
type Config struct {
	// Stream carries events between nodes. The Hub listens to it from its first channel on.
	Stream *feed.Stream

	// Node is what the node is called in the ids of events that it makes.
	Node string

	// Sequence returns the next of the numbers that the Stream's Config.Position is about.
	Sequence func() uint64

	// Memory bounds what all channels together remember, in bytes. Zero means 16 MiB.
	Memory int

	Logger *slog.Logger
}

const defaultMemory = 16 << 20

// Hub is one node's channels and subscriptions. Its methods may be called from any goroutine.
type Hub struct {
	config Config
	made   atomic.Uint64 // events made of data alone
	bad    sparing.Counter
	counts counts

	clientsEver atomic.Uint64

	// ctx ends when the Hub closes.
	ctx    context.Context
	cancel context.CancelFunc
	work   workerpool.Pool // of Listen

	starting sync.Mutex // guards started; held while the bus is subscribed to
	started  bool

	mu       sync.Mutex // guards what follows, and every Client's subscriptions
	channels map[string]Channel
	heard    bool      // the Stream was subscribed on the bus
	keeps    bool      // some channel keeps events
	rules    []Channel // of the topics of the event that is being handed over
	topics   topics
	clients  map[*Client]struct{}
	memory   memory
	match    matcher
}

// New returns a Hub without a channel.
func New(c Config) *Hub {
	if c.Memory == 0 {
		c.Memory = defaultMemory
	}
	h := &Hub{config: c, channels: make(map[string]Channel), clients: make(map[*Client]struct{})}
	h.memory.limit = c.Memory
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h
}

// start has the Hub hear the Stream. The error is the bus's, which could never accept the
// subscription.
func (h *Hub) start() error {
	h.starting.Lock()
	defer h.starting.Unlock()
	if h.started {
		return nil
	}
	if err := h.config.Stream.Listen(ear{h}); err != nil {
		return err
	}
	h.started = true
	return nil
}

// Close ends what Listen began, and waits for the listeners no longer than ctx allows. It may be
// called again.
func (h *Hub) Close(ctx context.Context) error {
	h.cancel()
	return h.work.Close(ctx)
}

// Live reports whether events of other nodes are heard. It is true where there is no channel.
func (h *Hub) Live() bool {
	h.starting.Lock()
	defer h.starting.Unlock()
	return !h.started || h.config.Stream.Live()
}

// ear is the Stream's listener.
type ear struct{ hub *Hub }

var _ feed.StreamListener = ear{}

// Record implements feed.StreamListener.
func (e ear) Record(r feed.Record) {
	h := e.hub
	m, err := h.decode(r)
	if err != nil {
		if n, say := h.bad.Again(); say {
			h.config.Logger.Warn("ignoring an event on the bus", slog.Int("bytes", len(r.Text)),
				slog.Uint64("so_far", n), slog.Any("error", err))
		}
		return
	}
	h.deliver(m)
}

// Gap implements feed.StreamListener. What is missed while the bus is lost is told when it is
// back.
func (e ear) Gap(g feed.Gap) {
	if g.Reason != feed.Disconnected {
		e.hub.miss(g)
	}
}

// miss tells each subscription that was there at the gap's position that it may have missed events.
func (h *Hub) miss(g feed.Gap) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.heard { // otherwise the node has just started, and remembers nothing
		h.memory.miss()
	}
	h.heard = true
	for c := range h.clients {
		for sub := range c.subs.All() {
			if sub.number <= g.Position {
				h.counts.gaps.Add(1)
				c.sink.Gap(sub.topic, 0)
			}
		}
	}
}

// counts are a Hub's running figures.
type counts struct {
	published, delivered, gaps atomic.Uint64
	subscriptions              atomic.Int64
}

// Stats is a snapshot of a Hub's figures. Those that say "since the start" only grow.
type Stats struct {
	Subscriptions int    // of all clients now
	Topics        int    // that are subscribed to now
	Published     uint64 // events that the bus has taken from this node, since the start
	Delivered     uint64 // events handed to clients of this node, since the start
	Gaps          uint64 // gaps told to subscriptions because of the bus, since the start
	Bad           uint64 // records on the bus that were no events, since the start
	Kept          int    // bytes of events that are remembered now
}

// Stats returns the figures as they are now.
func (h *Hub) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Stats{
		Subscriptions: int(h.counts.subscriptions.Load()), Topics: h.topics.len(),
		Published: h.counts.published.Load(), Delivered: h.counts.delivered.Load(), Gaps: h.counts.gaps.Load(),
		Bad: h.bad.Count(), Kept: h.memory.bytes,
	}
}
