package outbox

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/entity-sync/entity-sync/db/internal/sqlstate"
	"github.com/entity-sync/entity-sync/internal/sparing"
	"github.com/entity-sync/entity-sync/shared"
)

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
			// All rows go back. The entity types that can be announced follow at once.
			again = len(r.resting) < len(r.to.EntityTypes())
			return rollback(ctx, tx)
		}
		if err := commit(ctx, tx); err != nil {
			return err
		}
		r.count(b)
		again = b.rows == limit
		return nil
	})
	return again, err
}

// inTx calls f in a transaction, and rolls back what f does not commit.
func (r *Relay) inTx(ctx context.Context, f func(pgx.Tx) error) error {
	return r.config.Pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) (err error) {
		defer func() {
			if sqlstate.LeaveReadOnly(ctx, conn.Conn(), err) {
				// The pool's other connections may lead there, too. Each would cost a round,
				// and fetches over them would read old rows without an error.
				r.config.Pool.Reset()
			}
		}()
		tx, err := beginRound(ctx, conn)
		if err != nil {
			return err
		}
		defer func() { _ = rollback(ctx, tx) }() // does nothing after a commit
		return f(tx)
	})
}

// beginRound begins a transaction with settings of its own, whatever the database's defaults
// are. With row_security off, rows that a policy hides are an error rather than left out. With
// synchronous_commit off, a crash may lose a deletion: the keys are then announced twice, which
// does no harm. The outbox is now empty and now full, so that the planner's statistics are
// always wrong: the planner would read and sort the whole table, where the index of the primary
// key is right.
func beginRound(ctx context.Context, conn *pgxpool.Conn) (pgx.Tx, error) {
	longer, cancel := outlasting(ctx)
	defer cancel()
	return conn.BeginTx(longer, pgx.TxOptions{BeginQuery: "begin isolation level read committed read write;" +
		"set local row_security = off; set local synchronous_commit = off; set local jit = off;" +
		"set local enable_seqscan = off; set local enable_bitmapscan = off; set local enable_sort = off"})
}

// leaveGrace is how long a transaction may go on to begin or to end when its context has ended.
const leaveGrace = time.Second

// outlasting returns a context that ends leaveGrace after ctx, for what begins or ends a
// transaction: pgx closes a connection where that is cut off, and a stop that is in order
// would cost the pool a connection.
func outlasting(ctx context.Context) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(leaveGrace):
			cancel()
		case <-longer.Done():
		}
	})
	return longer, func() {
		stop()
		cancel()
	}
}

// commit does nothing where ctx has ended: what was taken is left to other relays.
func commit(ctx context.Context, tx pgx.Tx) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	longer, cancel := outlasting(ctx)
	defer cancel()
	return tx.Commit(longer)
}

func rollback(ctx context.Context, tx pgx.Tx) error {
	longer, cancel := outlasting(ctx)
	defer cancel()
	return tx.Rollback(longer)
}

// turn returns the entity types of the next round, and how many rows it takes. The order of
// the types is random, so that a flood of one does not keep others waiting. Types that could
// not be announced have rounds of their own, so that they do not make rows of other types go
// back. Each failure halves the rows of such a round, in case they are too many for a slow
// bus. Two such rounds do not follow each other while there are other types, because an
// announcement that hangs must not keep those waiting.
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

// batch is the rows of a round.
type batch struct {
	rows      int
	good, bad uint64 // how many of the rows are valid keys, and how many are not
	keys      map[shared.EntityType][]shared.EntityKey
}

// takeSQL deletes rows that no other relay has under way, the oldest of each entity type. Of
// an id it reads no more than shows that the id is too long.
const takeSQL = `delete from entity_sync_outbox where ctid = any (array(
		select taken.ctid from unnest($1::text[]) as types (entity) cross join lateral (
			select ctid from entity_sync_outbox where entity = types.entity order by entry limit $2 for update skip locked
		) as taken limit $2
	)) returning entity, left(id, 256)`

func take(ctx context.Context, tx pgx.Tx, types []string, limit int) (b batch, err error) {
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
			return nil //nolint:nilerr // it is removed with the other rows
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

// announce returns how many entity types could not be announced. Those rest for a while.
func (r *Relay) announce(ctx context.Context, b batch) (failed int) {
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
		if sparing.Says(uint64(n)) && r.stopping.Err() == nil {
			r.log.Warn("announcing from the outbox failed", slog.String("entity", string(entity)), slog.Int("in_a_row", n), slog.Any("error", err))
		}
	}
	return failed
}

// count adds a round that worked to the figures.
func (r *Relay) count(b batch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.stats.Bad
	if len(r.resting) == 0 && r.events.failures == 0 {
		r.stats.Failing = 0
	}
	r.stats.Published += b.good
	r.stats.Bad += b.bad
	if sparing.SaysBetween(before, r.stats.Bad) {
		r.log.Warn("the outbox held a row without a valid key: it was removed", slog.Uint64("so_far", r.stats.Bad))
	}
}

func (r *Relay) countFailure() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.Failed++
	r.stats.Failing++
}
