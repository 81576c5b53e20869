package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/entity-sync/entity-sync/bridge/internal/schedule"
	"github.com/entity-sync/entity-sync/internal/backoff"
	"github.com/entity-sync/entity-sync/internal/feed"
	"github.com/entity-sync/entity-sync/internal/redact"
	"github.com/entity-sync/entity-sync/internal/sparing"
	"github.com/entity-sync/entity-sync/shared"
)

// EntityOptions says how the rows of one entity type are fetched. The zero
// value means the defaults.
type EntityOptions struct {
	// Scope maps a secret to what decides which rows its holder sees, such as a tenant or a
	// role. Clients whose secrets have equal scopes share one fetch, which is made with the
	// secret of any of them. Nil gives every secret a fetch of its own. A function that returns
	// a constant gives one fetch a node, for data that everybody may see.
	//
	// The function may answer out of memory, and its answer for a secret may change, for
	// example when a user moves to another tenant. The engine calls the function when a client
	// subscribes, when a fetch begins, and for the secret of each member when the result is
	// there. The function must therefore be quick and must not wait. The handler must go by the
	// same memory as the function.
	//
	// A client whose scope has changed is handed rows of its new scope. If the scope of the
	// secret that a fetch was made with has changed meanwhile, no client gets the rows of that
	// fetch. A scope that changes and changes back within one call of the handler is not
	// noticed.
	Scope func(secret string) string

	// Workers is how many fetches of this type run at once on this node, if Limit or
	// Config.MaxFetches lets so many. Zero means 32, or as many as Limit allows. An entity type
	// never waits for the workers of another.
	Workers int

	// Limit bounds the fetches of this type together with the fetches of every type that has
	// the same Limit, in place of Config.MaxFetches. Workers may not exceed it. Nil means
	// Config.MaxFetches.
	Limit *Limit

	// Timeout ends the context of a fetch that takes longer, and discards its
	// result. Zero means 10 s.
	Timeout time.Duration

	// MaxBytes bounds the rows of one fetch together. A fetch that returns more has failed.
	// Zero means 1 MiB.
	MaxBytes int

	// BatchSize bounds how many fetches RegisterBatch's handler gets at once. Zero means
	// 10,000. A handler given to Register gets one fetch at a time.
	BatchSize int

	// Precise says that an error which RegisterBatch's handler gives to all requests holds for
	// each request. Without Precise the engine then calls the handler with parts of the
	// requests, within Timeout, so that one request which makes the handler fail does not keep
	// the others waiting.
	Precise bool

	// Retry is how long a view waits after a failed fetch. Zero means 100 ms, doubled up to 30
	// s, with full jitter.
	Retry Retry

	// ResyncRate bounds how many views a second are fetched for Refresh or because
	// notifications may have been missed. Zero means no bound. Such fetches have a quarter of
	// the workers in any case.
	ResyncRate int

	// OnlyDifferences keeps what a client was sent already from being sent again
	// when the key is announced as changed. Without it every announcement pushes.
	OnlyDifferences bool

	// Refresh is the period within which every view is fetched again even if no change was
	// announced. The fetches are spread over the period, and what differs is pushed. Zero means
	// never. The shortest period is 1 s.
	Refresh time.Duration
}

// Retry is exponential back-off with full jitter.
type Retry struct {
	// Min and Max are the longest that the first wait and any wait can be.
	Min, Max time.Duration
}

func (r Retry) delay(failures int) time.Duration { return backoff.Policy(r).Delay(failures) }

const (
	defaultWorkers      = 32
	defaultFetchTimeout = 10 * time.Second
	defaultMaxBytes     = 1 << 20
	defaultBatchSize    = 10_000
	defaultRetryMin     = 100 * time.Millisecond
	defaultRetryMax     = 30 * time.Second
)

func (o EntityOptions) withDefaults() EntityOptions {
	if o.Workers == 0 {
		o.Workers = defaultWorkers
		if o.Limit != nil {
			o.Workers = min(o.Workers, o.Limit.limit.Size())
		}
	}
	if o.Timeout == 0 {
		o.Timeout = defaultFetchTimeout
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultMaxBytes
	}
	if o.BatchSize == 0 {
		o.BatchSize = defaultBatchSize
	}
	if o.Retry == (Retry{}) {
		o.Retry = Retry{Min: defaultRetryMin, Max: defaultRetryMax}
	}
	return o
}

func (o EntityOptions) validate() error {
	switch {
	case o.Workers < 0:
		return fmt.Errorf("Workers is %d, want 1 or more", o.Workers)
	case o.Limit != nil && o.Workers > o.Limit.limit.Size():
		return fmt.Errorf("Workers is %d, want no more than the %d that NewLimit made Limit for", o.Workers, o.Limit.limit.Size())
	case o.Timeout < 0:
		return fmt.Errorf("Timeout is %v, want more than 0", o.Timeout)
	case o.MaxBytes < 0:
		return fmt.Errorf("MaxBytes is %d, want 1 or more", o.MaxBytes)
	case o.BatchSize < 0:
		return fmt.Errorf("BatchSize is %d, want 1 or more", o.BatchSize)
	case o.Retry != (Retry{}) && (o.Retry.Min <= 0 || o.Retry.Max < o.Retry.Min):
		return fmt.Errorf("Retry is %v to %v, want an interval that begins above 0", o.Retry.Min, o.Retry.Max)
	case o.ResyncRate < 0:
		return fmt.Errorf("ResyncRate is %d, want 1 or more", o.ResyncRate)
	case o.Refresh != 0 && o.Refresh < time.Second:
		return fmt.Errorf("Refresh is %v, want 1s or more", o.Refresh)
	}
	return nil
}

// Limit bounds the fetches that run at once of several entity types of one Bridge, such as the
// types that read from one pool of database connections. No entity type can take all places
// while others have none.
type Limit struct{ limit *schedule.Limit }

// NewLimit returns a Limit of n fetches, 1 at least.
func NewLimit(n int) *Limit { return &Limit{schedule.NewLimit(max(1, n))} }

// entity is one registered entity type: its fetch handler, its views, when they are fetched,
// and the feed's Listener for it.
type entity struct {
	bridge    *Bridge
	name      shared.EntityType
	fetch     shared.BatchFetcher
	options   EntityOptions
	index     index
	schedule  *schedule.Schedule[*view] // nil where the type is only announced
	feed      *feed.Feed
	gapLines  sparing.Period
	lost      atomic.Bool     // was live, and is not any more
	running   atomic.Int64    // fetches under way
	failures  atomic.Uint64   // fetches failed in a row
	wentBack  sparing.Counter // revisions that went back for good
	misjudged sparing.Counter // calls of the scope function that panicked

	announced bool    // and nothing else: nobody here hears or fetches it
	before    *entity // that was only announced, in whose place this one is; or nil
}

// scopeOf maps a secret to its scope. It calls the application, so no lock may be held. If the
// scope function panics, the secret is a scope of its own.
func (e *entity) scopeOf(secret shared.Secret) (s scope) {
	if e.options.Scope == nil {
		return scope{value: secret}
	}
	defer func() {
		if r := recover(); r != nil {
			s = scope{value: secret}
			// Not each time: the function is called for each member of each fetch.
			if n, say := e.misjudged.Again(); say {
				e.bridge.log.Error("scope function panicked; the client's rows are fetched for it alone", slog.Uint64("so_far", n),
					slog.String("entity", string(e.name)), slog.String("panic", redact.Panic(r)), slog.String("stack", string(debug.Stack())))
			}
		}
	}()
	return scope{shared: true, value: shared.NewSecret(e.options.Scope(secret.Reveal()))}
}

// Changed implements feed.Listener: it marks the views of a key.
func (e *entity) Changed(c feed.Change) {
	e.bridge.counts.notified.Add(1)
	e.index.changed(c.ID)
}

// Gap implements feed.Listener: the rows of any view may have changed unheard.
func (e *entity) Gap(g feed.Gap) {
	switch g.Reason {
	case feed.Connected:
		e.connected(g)
	case feed.Disconnected:
		e.disconnected(g)
	case feed.Missing, feed.Midway:
		e.missed(g)
	}
}

// connected looks at every view again, because changes that were announced before may have been
// missed.
func (e *entity) connected(g feed.Gap) {
	b := e.bridge
	n := e.index.looksAgain(g.Position)
	b.counts.resyncsJoined.Add(1)
	b.log.Info("subscribed on the bus", slog.String("entity", string(e.name)), slog.Int("views", n))
	if e.lost.Swap(false) && b.lost.Add(-1) == 0 {
		b.log.Warn("the bus is back") // as loud as the loss
	}
}

// disconnected makes every view stale. The log has a line for the first entity type alone: the
// others nearly always follow.
func (e *entity) disconnected(g feed.Gap) {
	e.index.postAll(lostBus)
	level := slog.LevelDebug
	if !e.lost.Swap(true) && e.bridge.lost.Add(1) == 1 {
		level = slog.LevelWarn
	}
	e.bridge.log.Log(e.bridge.ctx, level, "lost the bus; clients are brought up to date when it is back",
		slog.String("entity", string(e.name)), slog.Any("error", g.Err))
}

// missed looks again at every view that was fetched before a loss was noticed. What was lost
// was announced earlier than that.
func (e *entity) missed(g feed.Gap) {
	n := e.index.looksAgain(g.Position)
	e.bridge.noteMissed(e.name, g, n, &e.gapLines)
}

// noteMissed counts and logs that notifications of an entity type, or of a topic, may have been
// missed, and how many views are looked at again.
func (b *Bridge) noteMissed(name shared.EntityType, g feed.Gap, views int, lines *sparing.Period) {
	level, what := slog.LevelInfo, "a node has begun to announce; looking once at everything watched"
	if g.Reason == feed.Missing {
		level, what = slog.LevelWarn, "notifications were missed; looking at everything watched again"
		b.counts.resyncsLost.Add(1)
	} else {
		b.counts.resyncsMidway.Add(1)
	}
	times, say := lines.Again(time.Now())
	if !say {
		level = slog.LevelDebug
	}
	b.log.Log(b.ctx, level, what, slog.String("entity", string(name)), slog.Uint64("lost", g.Missing),
		slog.Int("new_publishers", g.Joined), slog.Int("views", views), slog.Uint64("times_since_the_last_line", times))
}

// gapLinesEvery is how often an entity type says at a level above debug that every view is
// looked at again. How often that happens is in the hands of publishers.
const gapLinesEvery = 10 * time.Second

// refresh fetches every view again once a period, for writes that are never announced. It
// fetches one part of the views after the other, so that the database sees a steady trickle.
// Nodes begin with different parts.
func (e *entity) refresh() {
	b := e.bridge
	ticker := time.NewTicker(e.options.Refresh / shardCount)
	defer ticker.Stop()
	for part := rand.IntN(shardCount); ; part = (part + 1) % shardCount { //nolint:gosec // where to begin is no secret
		select {
		case <-ticker.C:
			n := e.index.postPart(part, posted(causeRefresh))
			b.counts.refreshed.Add(uint64(n)) //nolint:gosec // a count
		case <-b.ctx.Done():
			return
		}
	}
}

// Announce makes an entity type known to Notify and to nothing else. This node does not
// subscribe to the type on the bus, has no fetch handler for the type, and refuses a client's
// subscription with shared.ErrUnknownEntity. Notify promises the same as for a registered type,
// whose rows other nodes fetch.
//
// Announce changes nothing if the type is registered or announced already. The type may be
// registered later. Announce returns an error wrapping shared.ErrBadEntity for a name that
// cannot be a topic, and for a name that is kept for the system's own topics.
func (b *Bridge) Announce(name shared.EntityType) error {
	if err := b.announce(name); err != nil {
		return fmt.Errorf("bridge: announcing %.80q: %w", string(name), err)
	}
	return nil
}

func (b *Bridge) announce(name shared.EntityType) error {
	if err := validate(name); err != nil {
		return err
	}
	if err := b.feeds.Prepare(name); err != nil {
		return err
	}
	err := b.add(&entity{bridge: b, name: name, fetch: nothing, options: EntityOptions{}.withDefaults(), announced: true})
	if known, _ := b.entity(name); known != nil && errors.Is(err, shared.ErrDuplicateEntity) {
		return nil // Notify knows it already
	}
	return err
}

// nothing is the fetch handler of an entity type that is only announced. No client can
// subscribe to such a type.
func nothing(context.Context, []shared.FetchRequest) []shared.FetchResult { return nil }

// replaces reports whether e may be registered in the place of old: an entity type that
// was only announced until now.
func (e *entity) replaces(old *entity) bool { return old.announced && !e.announced }
