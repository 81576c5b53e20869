package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/internal/backoff"
	"github.com/entity-sync/entity-sync/internal/field"
	"github.com/entity-sync/entity-sync/internal/sparing"
	"github.com/entity-sync/entity-sync/internal/wait"
	"github.com/entity-sync/entity-sync/shared"
)

const (
	// roundTimeout bounds a round, so that a database which does not answer is
	// noticed, and tried again on another connection.
	roundTimeout = 10 * time.Second

	// minGap is between the beginnings of two rounds, unless there is more to take:
	// being woken after every one of many commits costs a hundred rounds a second.
	minGap = 10 * time.Millisecond

	// closeGrace is how long Close lets a round finish that is under way.
	closeGrace = time.Second
)

// retry is how long to wait after a round that failed.
var retry = backoff.Policy{Min: 100 * time.Millisecond, Max: 2 * time.Second}

// Relay announces what is written to an outbox. Any number of relays, of as many
// nodes, share the work: each row is announced by one of them, and at least once.
//
// A round is one transaction: it takes rows that no other relay has, announces
// their keys, and commits their deletion. Whatever ends it before, be it kill -9,
// leaves the rows where they were, for the next relay that looks. Nothing is
// remembered between rounds: in particular not how far the last one came, which
// would miss rows, as a transaction may commit later than one that has begun after
// it.
//
// A relay takes the rows of the entity types that its Announcer knows, and leaves
// all others to other nodes.
type Relay struct {
	config Config
	to     Announcer
	log    *slog.Logger

	stopping, ctx context.Context // the first ends when Close begins, the other when it must
	stop, cancel  context.CancelFunc
	wake          chan struct{}
	work          sync.WaitGroup // the goroutines of relay and listen

	// Of the goroutine of relay alone.
	resting           map[shared.EntityType]rest
	retried           bool      // the last round was of those
	failures          int       // rounds that the database failed, in a row
	measured, started time.Time // the last look at how much waits, and the first
	late, lateForeign lateness

	mu    sync.Mutex // guards what follows
	stats Stats
}

// rest is what an entity type takes whose keys could not be announced.
type rest struct {
	failures int // in a row
	until    time.Time
}

// Start starts a relay that announces to the Announcer. Its errors are those of the
// configuration: a database that cannot be reached, has no outbox yet, or does not let
// the pool's role relay, is not one. The latter two are logged as errors, with what
// mends them. Close the relay before what it announces to.
func Start(c Config, to Announcer) (*Relay, error) {
	if err := c.validate(); err != nil {
		return nil, field.In("outbox.Config", err)
	}
	if isNil(to) {
		return nil, errors.New("outbox: there is nothing to announce to: the Announcer is nil")
	}
	c = c.withDefaults()
	r := &Relay{config: c, to: to, log: c.Logger, wake: make(chan struct{}, 1), resting: make(map[shared.EntityType]rest)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.stopping, r.stop = context.WithCancel(r.ctx)
	r.work.Go(r.relay)
	if c.Listen {
		r.work.Go(r.listen)
	}
	return r, nil
}

// Wake has the relay look at the outbox now rather than at its next interval: call
// it after a commit. It never waits. On a nil Relay it does nothing.
func (r *Relay) Wake() {
	if r == nil {
		return
	}
	select {
	case r.wake <- struct{}{}:
	default: // it will look, and that is enough
	}
}

// Close ends the relay, no longer than ctx allows. A round under way may finish
// within a second; what it has taken is left to others otherwise. What waits stays
// in the outbox. It may be called again.
func (r *Relay) Close(ctx context.Context) error {
	r.stop()
	defer r.cancel()
	grace, end := context.WithTimeout(ctx, closeGrace)
	defer end()
	if wait.For(grace, &r.work) == nil {
		return nil
	}
	r.cancel()
	if err := wait.For(ctx, &r.work); err != nil {
		return fmt.Errorf("outbox: waiting for the relay: %w", err)
	}
	return nil
}

// relay makes rounds until the relay is closed.
func (r *Relay) relay() {
	for r.stopping.Err() == nil {
		begin := time.Now()
		again, err := r.round()
		if err == nil {
			err = r.measure()
		}
		r.tell(err)
		switch {
		case err != nil: // being woken does not help
			sleep(r.stopping, retry.Delay(r.failures), nil)
		case !again:
			// However long a look takes, it takes half of the time at most.
			sleep(r.stopping, max(r.config.Interval, time.Since(begin)), r.wake)
			sleep(r.stopping, minGap-time.Since(begin), nil)
		}
	}
}

// sleep returns after d, when woken, or when ctx ends.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	case <-ctx.Done():
	}
}

// tell notes how a round ended, and says so in the log where that is news.
func (r *Relay) tell(err error) {
	if r.stopping.Err() != nil {
		return
	}
	if err == nil {
		if r.failures > 0 {
			r.log.Info("the outbox is relayed again", slog.Int("failures", r.failures))
			r.failures = 0
			r.mu.Lock()
			defer r.mu.Unlock()
			r.stats.Failing = 0
		}
		return
	}
	r.failures++
	r.countFailure()
	if !sparing.Says(uint64(r.failures)) {
		return
	}
	attrs := []any{slog.Int("in_a_row", r.failures), slog.Any("error", err)}
	if remedy := r.remedy(err); remedy != "" {
		r.log.Error("the outbox cannot be relayed: nothing that is written to it is announced", append(attrs, slog.String("remedy", remedy))...)
		return
	}
	r.log.Warn("relaying the outbox failed", attrs...)
}
