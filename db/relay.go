package db

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/entity-sync/entity-sync/db/internal/sqlstate"
	"github.com/entity-sync/entity-sync/internal/backoff"
	"github.com/entity-sync/entity-sync/internal/wait"
	"github.com/entity-sync/entity-sync/shared"
)

// Outbox says how the keys of an outbox are announced. es.Config.Outbox has a node
// do it; Start is for those who have a Bridge and no EntitySync.
type Outbox struct {
	// Pool is the database with the outbox. Required. The relay takes one of its
	// connections, and only while a round lasts.
	Pool *pgxpool.Pool

	// Interval is how often the outbox is looked at while nothing wakes the
	// relay: how late a key is announced. Zero means 100 ms.
	Interval time.Duration

	// BatchSize is how many rows a round takes at most. After a full one the
	// next follows at once. Zero means 1,000.
	BatchSize int

	// Listen has the relay woken by every write to the outbox, over one
	// connection of its own beside the pool. It needs EnableWakeUp, which says
	// what that costs; without it Listen has no effect, and the log says so.
	Listen bool

	// Logger gets what an operator should know. Nil means slog.Default().
	Logger *slog.Logger
}

// Announcer is a *bridge.Bridge.
type Announcer interface {
	// Notify announces that keys changed, or returns an error.
	Notify(ctx context.Context, keys ...shared.EntityKey) error

	// EntityTypes returns the entity types that Notify knows.
	EntityTypes() []shared.EntityType
}

const (
	defaultInterval  = 100 * time.Millisecond
	defaultBatchSize = 1000

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

func (o Outbox) withDefaults() Outbox {
	if o.Interval == 0 {
		o.Interval = defaultInterval
	}
	if o.BatchSize == 0 {
		o.BatchSize = defaultBatchSize
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

func (o Outbox) validate() error {
	switch {
	case o.Pool == nil:
		return errors.New("Pool is nil")
	case o.Interval < 0:
		return errors.New("Interval cannot be negative")
	case o.BatchSize < 0:
		return errors.New("BatchSize cannot be negative")
	}
	return nil
}

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
	config Outbox
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
	stats OutboxStats
}

// rest is what an entity type takes whose keys could not be announced.
type rest struct {
	failures int // in a row
	until    time.Time
}

// Start returns a relay that announces to a. Its errors are those of the
// configuration: a database that cannot be reached, has no outbox yet, or does not let
// the pool's role relay, is not one. The latter two are logged as errors, with what
// mends them. Close the relay before what it announces to.
func (o Outbox) Start(a Announcer) (*Relay, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("db: Outbox: %w", err)
	}
	if isNil(a) {
		return nil, errors.New("db: Outbox: it has nothing to announce to: the Announcer is nil")
	}
	o = o.withDefaults()
	r := &Relay{config: o, to: a, log: o.Logger, wake: make(chan struct{}, 1), resting: make(map[shared.EntityType]rest)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.stopping, r.stop = context.WithCancel(r.ctx)
	r.work.Go(r.relay)
	if o.Listen {
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
		return fmt.Errorf("db: waiting for the relay: %w", err)
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

// round takes a batch and announces it. It reports whether to go on at once, and
// the error of the database.
func (r *Relay) round() (again bool, err error) {
	types, limit := r.turn(time.Now())
	if len(types) == 0 {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(r.ctx, roundTimeout)
	defer cancel()
	err = r.inTx(ctx, func(tx pgx.Tx) error {
		b, err := take(ctx, tx, types, limit)
		if err != nil {
			return err
		}
		if failed := r.announce(ctx, b); failed > 0 {
			r.countFailure()
			// All go back, and entity types that can be announced follow at once.
			again = len(r.resting) < len(r.to.EntityTypes())
			return tx.Rollback(ctx)
		}
		if err := tx.Commit(ctx); err != nil {
			return err
		}
		r.count(b)
		again = b.rows == limit
		return nil
	})
	return again, err
}

// inTx calls f in a transaction, whatever the database's defaults are, and rolls back
// what f does not commit. Rows that a policy hides are an error, not left out. Losing a
// deletion to a crash means announcing twice, so it need not wait for the disk. The
// planner's figures of a table that is now empty and now full are always wrong, and
// what it would do about that is read and sort the whole table: the primary key's
// index is right.
func (r *Relay) inTx(ctx context.Context, f func(pgx.Tx) error) error {
	return r.config.Pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) (err error) {
		defer func() {
			if sqlstate.LeaveReadOnly(ctx, conn.Conn(), err) {
				// All others may lead there, too: each would cost a round, and what is
				// fetched over them is old without a word.
				r.config.Pool.Reset()
			}
		}()
		tx, err := conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: "begin isolation level read committed read write;" +
			"set local row_security = off; set local synchronous_commit = off; set local jit = off;" +
			"set local enable_seqscan = off; set local enable_bitmapscan = off; set local enable_sort = off"})
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback(ctx) }() // does nothing after a commit
		return f(tx)
	})
}

// turn returns the entity types that the next round takes rows of, in random order,
// so that a flood of one does not keep others waiting, and how many rows. Those that
// could not be announced are tried by themselves, so that no others go back with
// them, and with half as many rows each time, should it be that they are too many
// for a bus which is slow. No two rounds in a row are theirs while there are others:
// an announcement that hangs must not keep those waiting.
func (r *Relay) turn(now time.Time) (types []string, limit int) {
	var due []string
	dueLimit := r.config.BatchSize
	for _, entity := range r.to.EntityTypes() {
		rest, failed := r.resting[entity]
		switch {
		case !failed:
			types = append(types, string(entity))
		case !now.Before(rest.until):
			due = append(due, string(entity))
			dueLimit = min(dueLimit, max(1, r.config.BatchSize>>rest.failures))
		}
	}
	limit = r.config.BatchSize
	r.retried = len(due) > 0 && (len(types) == 0 || !r.retried)
	if r.retried {
		types, limit = due, dueLimit
	}
	rand.Shuffle(len(types), func(i, j int) { types[i], types[j] = types[j], types[i] }) //nolint:gosec // no secret
	return types, limit
}

// outboxBatch is the rows of a round.
type outboxBatch struct {
	rows      int
	good, bad uint64 // of those
	keys      map[shared.EntityType][]shared.EntityKey
}

// takeSQL deletes rows that no other relay has under way. It takes the oldest of
// each entity type, and reads no more of an id than shows that it is too long.
const takeSQL = `delete from entity_sync_outbox where ctid = any (array(
		select taken.ctid from unnest($1::text[]) as types (entity) cross join lateral (
			select ctid from entity_sync_outbox where entity = types.entity order by entry limit $2 for update skip locked
		) as taken limit $2
	)) returning entity, left(id, 256)`

func take(ctx context.Context, tx pgx.Tx, types []string, limit int) (b outboxBatch, err error) {
	rows, err := tx.Query(ctx, takeSQL, types, limit)
	if err != nil {
		return b, err
	}
	b.keys = make(map[shared.EntityType][]shared.EntityKey)
	once := make(map[shared.EntityKey]struct{})
	var key shared.EntityKey
	_, err = pgx.ForEachRow(rows, []any{&key.Entity, &key.ID}, func() error {
		b.rows++
		if err := key.Validate(); err != nil {
			b.bad++
			return nil //nolint:nilerr // it is removed with the others
		}
		b.good++
		if _, double := once[key]; !double {
			once[key] = struct{}{}
			b.keys[key.Entity] = append(b.keys[key.Entity], key)
		}
		return nil
	})
	return b, err
}

// announce returns how many entity types could not be announced. They rest for a
// while.
func (r *Relay) announce(ctx context.Context, b outboxBatch) (failed int) {
	errs := make(map[shared.EntityType]error, len(b.keys))
	var mu sync.Mutex
	var calls sync.WaitGroup
	for entity, keys := range b.keys {
		calls.Go(func() {
			err := r.to.Notify(ctx, keys...)
			mu.Lock()
			defer mu.Unlock()
			errs[entity] = err
		})
	}
	calls.Wait()
	for entity, err := range errs {
		if err == nil {
			delete(r.resting, entity)
			continue
		}
		failed++
		n := r.resting[entity].failures + 1
		r.resting[entity] = rest{n, time.Now().Add(retry.Delay(n))}
		if worthSaying(n) && r.stopping.Err() == nil {
			r.log.Warn("announcing from the outbox failed", slog.String("entity", string(entity)), slog.Int("in_a_row", n), slog.Any("error", err))
		}
	}
	return failed
}

// count notes what came of a round that worked.
func (r *Relay) count(b outboxBatch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.stats.Bad
	if len(r.resting) == 0 {
		r.stats.Failing = 0
	}
	r.stats.Published += b.good
	r.stats.Bad += b.bad
	if doubled(before, r.stats.Bad) {
		r.log.Warn("the outbox holds what is no key: it was removed", slog.Uint64("so_far", r.stats.Bad))
	}
}

func (r *Relay) countFailure() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.Failed++
	r.stats.Failing++
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
	if !worthSaying(r.failures) {
		return
	}
	attrs := []any{slog.Int("in_a_row", r.failures), slog.Any("error", err)}
	if remedy := r.remedy(err); remedy != "" {
		r.log.Error("the outbox cannot be relayed: nothing that is written to it is announced", append(attrs, slog.String("remedy", remedy))...)
		return
	}
	r.log.Warn("relaying the outbox failed", attrs...)
}

// worthSaying picks the 1st, 2nd, 4th, 8th … of what may go on for ever.
func worthSaying(n int) bool { return n&(n-1) == 0 }

// doubled reports whether one such time is after before, up to now.
func doubled(before, now uint64) bool { return bits.Len64(before) < bits.Len64(now) }
