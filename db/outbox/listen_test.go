package outbox_test

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
)

// With an interval that nobody would wait for, Wake and Listen have keys announced
// at once.
func TestBeingWoken(t *testing.T) {
	t.Parallel()
	d := newOutbox(t)
	pool := newPool(t, d.URL())
	e := newEar("items")
	r := startRelay(t, outbox.Config{Pool: pool, Interval: time.Hour}, e)
	write(t, pool, itemKey("1"))
	r.Wake()
	testkit.Until(t, "it was announced", func() bool { return e.times(itemKey("1")) == 1 })
	closeRelay(t, r)

	startRelay(t, outbox.Config{Pool: pool, Interval: time.Hour, Listen: true}, e)
	for range 2 {
		if err := outbox.EnableWakeUp(t.Context(), pool); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		id := fmt.Sprint("woken ", i)
		write(t, pool, itemKey(id))
		testkit.Until(t, "it was announced", func() bool { return e.times(itemKey(id)) == 1 })
	}
	// The listener comes back, and asks for what it has missed.
	d.Exec(t, "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query like 'listen%'")
	write(t, pool, itemKey("2"))
	testkit.Until(t, "it was announced", func() bool { return e.times(itemKey("2")) == 1 })

	for range 2 {
		if err := outbox.DisableWakeUp(t.Context(), pool); err != nil {
			t.Fatal(err)
		}
	}
	var triggers int
	if err := pool.QueryRow(t.Context(), "select count(*) from pg_trigger where tgname = 'entity_sync_wake_up'").Scan(&triggers); err != nil || triggers != 0 {
		t.Errorf("%d triggers are left, %v", triggers, err)
	}
}

// A relay that is woken without end makes a hundred rounds a second, not thousands.
func TestBeingWokenTooOften(t *testing.T) {
	t.Parallel()
	d := newOutbox(t)
	pool := newPool(t, d.URL())
	e := &countingEar{ear: newEar("items")}
	r := startRelay(t, outbox.Config{Pool: pool}, e)
	begin := time.Now()
	for time.Since(begin) < time.Second {
		r.Wake()
		time.Sleep(100 * time.Microsecond)
	}
	// It asks once a round, and once a second.
	n := e.asked.Load() // before the clock is read, which may be later
	if took := time.Since(begin); float64(n) > 30+100*took.Seconds() {
		t.Errorf("%d rounds in %v", n, took)
	}
}

type countingEar struct {
	*ear
	asked atomic.Int64
}

func (e *countingEar) EntityTypes() []shared.EntityType {
	e.asked.Add(1)
	return e.ear.EntityTypes()
}

// Listen without the trigger that wakes it does nothing, and is told of; the keys come
// by the interval.
func TestListeningToWhatWakesNobodyIsToldOf(t *testing.T) {
	t.Parallel()
	d := newOutbox(t)
	for _, enabled := range []bool{false, true} {
		if enabled {
			if err := outbox.EnableWakeUp(t.Context(), d.Connect(t)); err != nil {
				t.Fatal(err)
			}
		}
		var log testkit.Buffer
		e := newEar("items")
		pool := newPool(t, d.URL())
		r := startRelay(t, outbox.Config{Pool: pool, Listen: true, Interval: 20 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(&log, nil))}, e)
		write(t, pool, itemKey("1"))
		testkit.Until(t, "the key is announced", func() bool { return e.times(itemKey("1")) == 1 })
		if !enabled {
			testkit.Until(t, "the log has the remedy", func() bool { return log.Count("run outbox.EnableWakeUp") == 1 })
		}
		testkit.Until(t, "it listens", func() bool { return listeners(t, d) > 0 })
		closeRelay(t, r)
		if n := log.Count("outbox.Config.Listen has no effect"); (n == 0) != enabled {
			t.Errorf("with the trigger %v the log says %d times that listening has no effect", enabled, n)
		}
	}
}

// listeners returns how many connections listen to the outbox of the database.
func listeners(t *testing.T, d *pgtest.Database) (n int) {
	t.Helper()
	conn := d.Connect(t)
	defer conn.Close(t.Context()) // it is called often
	err := conn.QueryRow(t.Context(), "select count(*) from pg_stat_activity where datname = $1 and query like '%entity_sync_wake_up%' and pid <> pg_backend_pid()", d.Name).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
