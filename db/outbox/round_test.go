package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
)

func TestAnnouncementsThatFailAreRepeated(t *testing.T) {
	t.Parallel()
	d := newOutbox(t)
	pool := newPool(t, d.URL())
	e := newEar("items", "users", "sick")
	down := errors.New("the bus is down")
	e.refusing(func([]shared.EntityKey) error { return down })
	var log testkit.Buffer
	r := startRelay(t, outbox.Config{Pool: pool, Logger: slog.New(slog.NewTextHandler(&log, nil))}, e)
	write(t, pool, itemKey("1"))
	testkit.Until(t, "it failed a few times", func() bool { return r.Stats().Failing > 3 })
	testkit.Until(t, "the row is there still", func() bool { return r.Stats().Waiting == 1 && r.Stats().Oldest > 0 })
	e.refusing(nil)
	testkit.Until(t, "it was announced", func() bool { return e.times(itemKey("1")) == 1 && r.Stats().Published == 1 })
	if s := r.Stats(); s.Failing != 0 {
		t.Errorf("%+v", s)
	}

	// One entity type alone cannot be announced: the others can.
	e.refusing(func(keys []shared.EntityKey) error {
		for _, key := range keys {
			if key.Entity == "sick" {
				return down
			}
		}
		return nil
	})
	begin := time.Now()
	for i := range 20 {
		user := shared.EntityKey{Entity: "users", ID: fmt.Sprint(i)}
		write(t, pool, shared.EntityKey{Entity: "sick", ID: fmt.Sprint(i)}, user)
		r.Wake()
		testkit.Until(t, "the other type was announced", func() bool { return e.times(user) > 0 })
	}
	t.Logf("20 keys in %v beside a type that fails", time.Since(begin))
	testkit.Until(t, "only the sick ones are left", func() bool { return len(waiting(t, d)) == 20 })
	double := 0
	for key, n := range e.all() {
		if key.Entity == "users" {
			double += n - 1
		}
	}
	if double > 1 { // the one that was with the first sick one
		t.Errorf("%d keys were announced again because of others", double)
	}
	if s := r.Stats(); s.Failing == 0 || log.Count("announcing from the outbox failed") > 12 {
		t.Errorf("%+v; the log says it %d times", s, log.Count("announcing from the outbox failed"))
	}
	e.refusing(nil)
	testkit.Until(t, "the sick one was announced, too", func() bool { return len(e.all()) == 41 })
	testkit.Until(t, "nothing is left", func() bool { return len(waiting(t, d)) == 0 })
}

// A relay that is stuck in an announcement keeps no other from its work, and what it
// has taken is announced when it is gone.
func TestARelayThatIsStuckHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	d := newOutbox(t)
	pool := newPool(t, d.URL())
	stuck, well := newEar("items"), newEar("items")
	entered, leave := make(chan struct{}), make(chan struct{})
	stuck.refusing(func([]shared.EntityKey) error {
		close(entered)
		<-leave
		return errors.New("too late")
	})
	r := startRelay(t, outbox.Config{Pool: pool}, stuck)
	defer close(leave)
	write(t, pool, itemKey("1"))
	<-entered
	startRelay(t, outbox.Config{Pool: pool}, well)
	write(t, pool, itemKey("2"))
	testkit.Until(t, "the other relay goes on", func() bool { return well.times(itemKey("2")) == 1 })
	if well.times(itemKey("1")) != 0 {
		t.Error("two relays have the same row")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	r.Close(ctx) // in vain, as long as it is stuck
	d.Exec(t, "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and state = 'idle in transaction'")
	testkit.Until(t, "what it had is announced", func() bool { return well.times(itemKey("1")) == 1 })
}

// slowEar refuses the entity type "slow", and takes its time for it.
type slowEar struct {
	*ear
	attempts atomic.Int64
	first    func()
}

func (e *slowEar) Notify(ctx context.Context, keys ...shared.EntityKey) error {
	if keys[0].Entity != "slow" {
		return e.ear.Notify(ctx, keys...)
	}
	if e.attempts.Add(1) == 1 {
		e.first()
	}
	time.Sleep(300 * time.Millisecond) // for longer than it rests at first
	return errors.New("nobody answers")
}

// An entity type whose announcement hangs has no two turns in a row.
func TestAnEntityTypeThatHangsHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	d := newOutbox(t, "insert into entity_sync_outbox (entity, id) values ('slow', '1')")
	pool := newPool(t, d.URL())
	e := &slowEar{ear: newEar("slow", "items")}
	e.first = func() { write(t, pool, itemKey("1")) }
	var attempts int64
	e.refusing(func([]shared.EntityKey) error {
		attempts = e.attempts.Load()
		return nil
	})
	startRelay(t, outbox.Config{Pool: pool}, e)
	testkit.Until(t, "the other entity type is announced", func() bool { return e.times(itemKey("1")) > 0 })
	e.mu.Lock()
	defer e.mu.Unlock()
	if attempts > 2 {
		t.Errorf("the other entity type had its turn after %d of the one that hangs", attempts)
	}
}

// A bus that cannot take many keys at once gets them all the same.
func TestABusThatCannotTakeABatch(t *testing.T) {
	t.Parallel()
	d := newOutbox(t, "insert into entity_sync_outbox (entity, id) select 'items', i from generate_series(1, 60) i")
	e := newEar("items")
	e.refusing(func(keys []shared.EntityKey) error {
		if len(keys) > 10 {
			return errors.New("too much")
		}
		return nil
	})
	r := startRelay(t, outbox.Config{Pool: newPool(t, d.URL()), BatchSize: 40}, e)
	testkit.Until(t, "all were announced", func() bool { return r.Stats().Published == 60 })
	if s := r.Stats(); s.Failed == 0 {
		t.Errorf("%+v", s)
	}
}

// Two transactions write to the outbox, and the one that wrote first commits last:
// who remembers how far it came misses it.
func TestWhatIsWrittenFirstAndCommittedLast(t *testing.T) {
	t.Parallel()
	d := newOutbox(t)
	pool := newPool(t, d.URL())
	e := newEar("items")
	startRelay(t, outbox.Config{Pool: pool}, e)
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		if err := outbox.NotifyTx(t.Context(), tx, itemKey("first")); err != nil {
			return err
		}
		write(t, pool, itemKey("second"))
		testkit.Until(t, "the second was announced", func() bool { return e.times(itemKey("second")) == 1 })
		if e.times(itemKey("first")) != 0 {
			t.Error("the first was announced before its commit")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	testkit.Until(t, "the first was announced", func() bool { return e.times(itemKey("first")) == 1 })
}

// What no NotifyTx would have written blocks nothing.
func TestPoisonedRows(t *testing.T) {
	t.Parallel()
	d := newOutbox(t)
	d.Exec(t, "insert into entity_sync_outbox (entity, id) select 'items', x from unnest(array['', e'a\\nb', repeat('x', 1000000), repeat('y', 256), repeat('ü', 200), 'fine', 'fine']) x")
	d.Exec(t, "insert into entity_sync_outbox (entity, id) values ('', '1'), (repeat('e', 2000), '1'), ('a b', '2')")
	d.Exec(t, "insert into entity_sync_outbox (entity, id, written) values ('never', '1', 'infinity'), ('always', '1', '-infinity')")
	pool := newPool(t, d.URL())
	e := newEar("items")
	var log testkit.Buffer
	r := startRelay(t, outbox.Config{Pool: pool, BatchSize: 2, Logger: slog.New(slog.NewTextHandler(&log, nil))}, e)
	testkit.Until(t, "all were dealt with", func() bool { s := r.Stats(); return s.Bad == 5 && s.Published == 2 && s.Foreign == 5 })
	if got := e.all(); len(got) != 1 {
		t.Errorf("announced %v", got)
	}
	if log.Count("without a valid key") == 0 {
		t.Error("the log says nothing")
	}
}

// Very much waits, of several entity types, with figures that the planner has from
// when nothing did: no type waits for another, and it is soon done.
func TestALargeBacklog(t *testing.T) {
	t.Parallel()
	d := newOutbox(t, "analyze entity_sync_outbox", "insert into entity_sync_outbox (entity, id) select 'items', i from generate_series(1, 200000) i", "insert into entity_sync_outbox (entity, id) values ('users', '1')")
	pool := newPool(t, d.URL())
	e := newEar("items", "users")
	begin := time.Now()
	r := startRelay(t, outbox.Config{Pool: pool}, e)
	testkit.Until(t, "the other type was announced", func() bool { return e.times(shared.EntityKey{Entity: "users", ID: "1"}) == 1 })
	t.Logf("the other type after %v", time.Since(begin))
	testkit.Until(t, "all were announced", func() bool { return r.Stats().Published == 200001 })
	t.Logf("200,000 rows in %v", time.Since(begin))
	if ids := slices.Collect(maps.Keys(e.all())); len(ids) != 200001 {
		t.Errorf("%d keys were announced", len(ids))
	}
}
