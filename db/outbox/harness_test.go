package outbox_test

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
)

const patience = testkit.Patience

// newOutbox returns a database of the test's own with an outbox in it.
func newOutbox(t testing.TB, statements ...string) *pgtest.Database {
	t.Helper()
	return outboxOn(t, pgtest.Shared(t), statements...)
}

func outboxOn(t testing.TB, server *pgtest.Server, statements ...string) *pgtest.Database {
	t.Helper()
	d := server.NewDatabase(t)
	if err := outbox.EnsureSchema(context.Background(), d.Connect(t)); err != nil {
		t.Fatal(err)
	}
	for _, sql := range statements {
		d.Exec(t, sql)
	}
	return d
}

// newPool returns a pool that is closed when the test ends.
func newPool(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := db.Open(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func itemKey(id string) shared.EntityKey { return shared.EntityKey{Entity: "items", ID: id} }

func itemKeys(ids ...string) (keys []shared.EntityKey) {
	for _, id := range ids {
		keys = append(keys, itemKey(id))
	}
	return keys
}

// waiting returns what is in the outbox, as "entity id", sorted.
func waiting(t testing.TB, d *pgtest.Database) []string {
	t.Helper()
	conn := d.Connect(t)
	defer conn.Close(context.Background()) // it is called often
	rows, err := conn.Query(context.Background(), `select entity || ' ' || id from entity_sync_outbox order by 1`)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func expectWaiting(t testing.TB, d *pgtest.Database, want ...string) {
	t.Helper()
	if got := waiting(t, d); !slices.Equal(got, want) {
		t.Errorf("in the outbox: %q, want %q", got, want)
	}
}

// write commits the keys, with nothing else.
func write(t testing.TB, conn outbox.Beginner, keys ...shared.EntityKey) {
	t.Helper()
	err := pgx.BeginFunc(context.Background(), conn, func(tx pgx.Tx) error { return outbox.NotifyTx(context.Background(), tx, keys...) })
	if err != nil {
		t.Fatal(err)
	}
}

// ear takes what relays announce.
type ear struct {
	types []shared.EntityType

	mu     sync.Mutex // guards what follows
	heard  map[shared.EntityKey]int
	refuse func([]shared.EntityKey) error
	news   chan struct{} // closed and replaced with every announcement
}

func newEar(types ...shared.EntityType) *ear {
	return &ear{types: types, heard: make(map[shared.EntityKey]int), news: make(chan struct{})}
}

func (e *ear) EntityTypes() []shared.EntityType { return e.types }

func (e *ear) Notify(_ context.Context, keys ...shared.EntityKey) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.refuse != nil {
		if err := e.refuse(keys); err != nil {
			return err
		}
	}
	for _, key := range keys {
		e.heard[key]++
	}
	close(e.news)
	e.news = make(chan struct{})
	return nil
}

func (e *ear) refusing(f func([]shared.EntityKey) error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.refuse = f
}

func (e *ear) all() map[shared.EntityKey]int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.heard)
}

func (e *ear) times(key shared.EntityKey) int { return e.all()[key] }

// startRelay runs a relay until the test ends.
func startRelay(t testing.TB, o outbox.Config, to outbox.Announcer) *outbox.Relay {
	t.Helper()
	if o.Logger == nil {
		o.Logger = canary.Logger(canary.Output(t))
	}
	r, err := outbox.Start(o, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeRelay(t, r) })
	return r
}

func closeRelay(t testing.TB, r *outbox.Relay) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.Close(ctx); err != nil {
		t.Error(err)
	}
}
