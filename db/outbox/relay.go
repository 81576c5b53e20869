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
	// roundTimeout bounds a round, so that the relay notices a database that does not answer,
	// and tries again on another connection.
	roundTimeout = 10 * time.Second

	// minGap is the least time between the beginnings of two rounds, unless more rows wait. So
	// a relay that each of many commits wakes makes no more than a hundred rounds a second.
	minGap = 10 * time.Millisecond

	// closeGrace is how long Close lets a round go on.
	closeGrace = time.Second
)

// retry is how long to wait after a round that failed.
var retry = backoff.Policy{Min: 100 * time.Millisecond, Max: 2 * time.Second}

// Relay announces the keys in an outbox, and publishes the events. Any number of relays, of as
// many nodes, share the work: each row is announced by one of them, and at least once.
//
// A round is one transaction: it takes rows that no other relay has, announces their keys, and
// commits their deletion. If a round ends before, even by kill -9, its rows stay in the outbox
// for the next round of any relay. A relay remembers no position between rounds: a transaction
// may commit later than one that began after it, so a position would miss rows.
//
// A relay takes the rows of the entity types that its Announcer knows, and leaves all others
// to other nodes.
//
// Events are taken by one relay at a time, in the order in which they were written, and each is
// published once the bus has taken the one before.
type Relay struct {
	config Config
	to     Announcer
	log    *slog.Logger

	stopping, ctx context.Context // stopping ends when Close begins, ctx when the relay must end
	stop, cancel  context.CancelFunc
	wake          chan struct{}
	work          sync.WaitGroup // the goroutines that run relay and listen

	// Owned by the goroutine that runs relay.
	resting           map[shared.EntityType]rest
	retried           bool // the last round was for resting entity types
	failures          int  // rounds in a row that the database failed
	events            eventRounds
	measured, started time.Time // the last measurement, and the first
	late, lateForeign lateness

	mu    sync.Mutex // guards what follows
	stats Stats
}

// rest is the pause of an entity type whose keys could not be announced.
type rest struct {
	failures int // in a row
	until    time.Time
}

// Start starts a relay that announces to the Announcer. It returns an error for a bad
// configuration. It returns none if the database cannot be reached, has no outbox yet, or does
// not let the pool's role relay; the log has the latter two as errors, with what mends them.
// Close the relay before the Announcer.
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

// Wake makes the relay read the outbox now rather than at its next interval: call it after a
// commit. It never waits. On a nil Relay it does nothing.
func (r *Relay) Wake() {
	if r == nil {
		return
	}
	select {
	case r.wake <- struct{}{}:
	default: // a round is due already
	}
}

// Close ends the relay, no longer than ctx allows. A round under way may finish within a
// second; otherwise its rows are left to other relays. Waiting rows stay in the outbox. Close
// may be called again.
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
			again = r.publishEvents() || again
			err = r.measure()
		}
		r.tell(err)
		switch {
		case err != nil: // a wake-up does not help
			sleep(r.stopping, retry.Delay(r.failures), nil)
		case !again:
			// A slow round thus takes half of the time at most.
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

// tell notes how a round ended, and logs it if that is news.
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
	if remedy := r.remedy(err, "entity_sync_outbox", relayRights); remedy != "" {
		r.log.Error("the outbox cannot be relayed: nothing that is written to it is announced", append(attrs, slog.String("remedy", remedy))...)
		return
	}
	r.log.Warn("relaying the outbox failed", attrs...)
}
