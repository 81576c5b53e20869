package outbox_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/internal/testkit"
)

const hundredItems = "create table items (id int primary key, price numeric); insert into items select n, n from generate_series(1, 100) n"

// In these of pgx's modes a PgBouncer that pools by transaction makes no difference.
func TestTheOutboxBehindPgBouncer(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"exec", "cache_describe", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			d := pgtest.Shared(t).NewDatabase(t, hundredItems)
			b := d.Server.StartBouncer(t, 2)
			pool := pgtest.Pool(t, b.URL(d.URL(), mode), 8)
			for what, err := range map[string]error{
				"EnsureSchema": outbox.EnsureSchema(t.Context(), pool),
				"Track":        outbox.Track(t.Context(), pool, "items", "items", "id"),
			} {
				if err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
			items := db.Rows(pool, "select id from items where id = $1")
			var writing sync.WaitGroup
			for i := range 8 {
				writing.Go(func() {
					for n := range 10 {
						key := itemKey(fmt.Sprintf("noted %d%d", i, n))
						if err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error { return outbox.NotifyTx(t.Context(), tx, key) }); err != nil {
							t.Error(err)
						}
						if rows, err := items.Fetch(t.Context(), itemKey(fmt.Sprint(i*10+n+1)), ""); err != nil || len(rows) != 1 {
							t.Errorf("fetched %q, %v", rows, err)
						}
					}
				})
			}
			writing.Wait()
			if _, err := pool.Exec(t.Context(), "update items set price = 0 where id = 7"); err != nil {
				t.Error(err)
			}
			e := newEar("items")
			startRelay(t, outbox.Config{Pool: pool}, e)
			testkit.Until(t, "all is announced", func() bool {
				return e.times(itemKey("7")) > 0 && e.times(itemKey("noted 00")) > 0 && e.times(itemKey("noted 79")) > 0
			})
		})
	}
}

// The default mode of pgx cannot work there. That is of the pool, and the error says what
// to change, whatever comes upon it first.
func TestTheOutboxInTheDefaultModeBehindPgBouncerIsABadPool(t *testing.T) {
	t.Parallel()
	d := newOutbox(t)
	b := d.Server.StartBouncer(t, 1)
	first, second := pgtest.Pool(t, b.URL(d.URL(), ""), 1), pgtest.Pool(t, b.URL(d.URL(), ""), 1)
	notify := func(pool *pgxpool.Pool) error {
		return pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error { return outbox.NotifyTx(t.Context(), tx, itemKey("1")) })
	}
	if err := notify(first); err != nil {
		t.Fatal(err)
	}
	err := notify(second)
	if !errors.Is(err, db.ErrBadPool) || errors.Is(err, db.ErrBadQuery) || !strings.Contains(err.Error(), "42P05") || !strings.Contains(err.Error(), "default_query_exec_mode=exec") {
		t.Errorf("NotifyTx of another client: %v, want an error of the pool", err)
	}

	var log testkit.Buffer
	relay := startRelay(t, outbox.Config{Pool: first, Logger: canary.Logger(&log)}, newEar("items"))
	testkit.Until(t, "it is relayed", func() bool { return relay.Stats().Published > 0 })
	closeRelay(t, relay)
	relay = startRelay(t, outbox.Config{Pool: second, Logger: canary.Logger(&log)}, newEar("items"))
	testkit.Until(t, "the other relay has failed", func() bool { return relay.Stats().Failed > 0 && log.Count("default_query_exec_mode=exec") > 0 })
}

// What the pool's URL has wrong is said at once. Waiting does not mend it.
func TestADatabaseThatIsNotThereIsABadPool(t *testing.T) {
	t.Parallel()
	lost := pgtest.Pool(t, (&pgtest.Database{Server: pgtest.Shared(t), Name: "lost"}).URL(), 1)
	for what, err := range map[string]error{
		"EnsureSchema": outbox.EnsureSchema(t.Context(), lost),
		"Track":        outbox.Track(t.Context(), lost, "items", "items", "id"),
	} {
		if !errors.Is(err, db.ErrBadPool) {
			t.Errorf("%s: %v, want an error of the pool", what, err)
		}
	}
	var log testkit.Buffer
	startRelay(t, outbox.Config{Pool: lost, Logger: canary.Logger(&log)}, newEar("items"))
	testkit.Until(t, "the relay says so", func() bool { return log.Count("create the database") > 0 })
}

// Nothing is heard over a connection that is not the client's own, and the log says so.
func TestListenBehindPgBouncer(t *testing.T) {
	t.Parallel()
	d := newOutbox(t)
	b := d.Server.StartBouncer(t, 2)
	for what, c := range map[string]struct {
		url  string
		says bool
	}{"directly": {d.URL(), false}, "behind PgBouncer": {b.URL(d.URL(), "exec"), true}} {
		pool := pgtest.Pool(t, c.url, 2)
		if err := outbox.EnableWakeUp(t.Context(), pool); err != nil {
			t.Fatal(err)
		}
		var log testkit.Buffer
		e := newEar("items")
		relay := startRelay(t, outbox.Config{Pool: pool, Listen: true, Logger: canary.Logger(&log)}, e)
		d.Exec(t, "insert into entity_sync_outbox (entity, id) values ('items', '1')")
		testkit.Until(t, "the interval brings it", func() bool { return e.times(itemKey("1")) > 0 })
		if c.says {
			testkit.Until(t, "the log says so", func() bool { return log.Count("goes through a pooler") == 1 })
		}
		closeRelay(t, relay)
		if n := log.Count("goes through a pooler"); (n > 0) != c.says {
			t.Errorf("%s the log says it %d times", what, n)
		}
	}
}
