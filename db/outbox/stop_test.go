package outbox_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
)

// busyEar is told of one announcement as it begins, and does with it what end says.
type busyEar struct {
	entered chan struct{}
	end     func(context.Context) error
}

func (e *busyEar) EntityTypes() []shared.EntityType { return []shared.EntityType{"items"} }

func (e *busyEar) Notify(ctx context.Context, _ ...shared.EntityKey) error {
	e.entered <- struct{}{}
	return e.end(ctx)
}

// A relay is stopped in the midst of a transaction, and cannot wait for its end: its
// connection goes back to the pool as it was, and the row back to the outbox.
func TestAStopCostsNoConnection(t *testing.T) {
	for name, end := range map[string]func(context.Context) error{
		"the announcement fails": func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		},
		"the announcement comes too late": func(ctx context.Context) error {
			<-ctx.Done()
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newOutbox(t)
			pool := pgtest.PatientPool(t, d.URL(), 1)
			before := backend(t, pool)
			e := &busyEar{make(chan struct{}, 10), end}
			r := startRelay(t, outbox.Config{Pool: pool}, e)
			write(t, d.Connect(t), itemKey("1"))
			<-e.entered
			stopAtOnce(t, r)
			if now := backend(t, pool); now != before {
				t.Errorf("the connection was lost: the server's process is %d, and was %d", now, before)
			}
			expectWaiting(t, d, "items 1")
		})
	}
}

// The same, while a statement waits for a lock.
func TestAStopDuringAStatementCostsNoConnection(t *testing.T) {
	d := newOutbox(t)
	pool := pgtest.PatientPool(t, d.URL(), 1)
	before := backend(t, pool)
	locks, err := d.Connect(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := locks.Exec(t.Context(), "lock table entity_sync_outbox in access exclusive mode"); err != nil {
		t.Fatal(err)
	}
	r := startRelay(t, outbox.Config{Pool: pool}, newEar("items"))
	asks := d.Connect(t)
	testkit.Until(t, "the relay waits for the lock", func() (waits bool) {
		err := asks.QueryRow(t.Context(), "select wait_event_type is not distinct from 'Lock' from pg_stat_activity where pid = $1", before).Scan(&waits)
		return err == nil && waits
	})
	stopAtOnce(t, r)
	if now := backend(t, pool); now != before {
		t.Errorf("the connection was lost: the server's process is %d, and was %d", now, before)
	}
}

// stopAtOnce closes a relay without letting the round under way finish, and waits for it to end.
func stopAtOnce(t *testing.T, r *outbox.Relay) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = r.Close(ctx) // in vain, as a rule: the relay ends a moment later
	closeRelay(t, r)
}

// backend returns the process of the server that the only connection of a pool leads to.
func backend(t *testing.T, pool *pgxpool.Pool) (pid int) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), "select pg_backend_pid()").Scan(&pid); err != nil {
		t.Fatal(err)
	}
	return pid
}
