package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
)

var _ outbox.Announcer = (*bridge.Bridge)(nil)

func TestWhatIsCommittedIsAnnouncedOnceAndRemoved(t *testing.T) {
	t.Parallel()
	d := newOutbox(t)
	pool := newPool(t, d.URL())
	e := newEar("items", "users")
	r := startRelay(t, outbox.Config{Pool: pool, BatchSize: 7}, e)
	user := shared.EntityKey{Entity: "users", ID: "1"}
	var keys []shared.EntityKey
	for i := range 100 {
		keys = append(keys, itemKey(fmt.Sprint(i)))
	}
	write(t, pool, append(keys, user)...)
	testkit.Until(t, "all was announced", func() bool { return len(e.all()) == 101 })
	for key, n := range e.all() {
		if n != 1 {
			t.Errorf("%v was announced %d times", key, n)
		}
	}
	testkit.Until(t, "the figures are there", func() bool { return r.Stats().Published == 101 })
	expectWaiting(t, d)
	if s := r.Stats(); s.Bad != 0 || s.Failed != 0 {
		t.Errorf("%+v", s)
	}
}

func TestABadConfigurationIsAnError(t *testing.T) {
	t.Parallel()
	pool := newPool(t, newOutbox(t).URL())
	for want, o := range map[string]outbox.Config{
		"Pool": {}, "Interval": {Pool: pool, Interval: -1}, "BatchSize": {Pool: pool, BatchSize: -1},
	} {
		if _, err := outbox.Start(o, newEar()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error that names %s", err, want)
		}
	}
	var none *outbox.Relay
	none.Wake()
	if none.Stats() != (outbox.Stats{}) {
		t.Error("a nil Relay has figures")
	}
}

// Rows of entity types that are not known here are left to others, are in nobody's
// way, and are taken as soon as the type is registered.
func TestUnknownEntityTypesAreLeftAlone(t *testing.T) {
	t.Parallel()
	d := newOutbox(t, "insert into entity_sync_outbox (entity, id) select 'strange' || i % 3, i from generate_series(1, 3000) i")
	pool := newPool(t, d.URL())
	b, err := bridge.New(bridge.Config{Bus: new(membus.Broker).NewNode(), Logger: canary.Logger(canary.Output(t)), Fetch: func(context.Context, shared.EntityKey, string) ([][]byte, error) { return nil, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close(context.Background())
	r := startRelay(t, outbox.Config{Pool: pool, BatchSize: 10}, b)
	if err := b.RegisterTopic("topic", bridge.Topic{Message: func(string) {}, Gap: func() {}}); err != nil {
		t.Fatal(err)
	}
	if err := b.RegisterEntityForSync("items"); err != nil {
		t.Fatal(err)
	}
	write(t, pool, itemKey("1"), shared.EntityKey{Entity: "topic", ID: "1"})
	testkit.Until(t, "the known one was announced", func() bool { return b.Stats().Notified == 1 })
	testkit.Until(t, "the others are counted", func() bool { return r.Stats().Foreign == 3001 && r.Stats().Waiting == 0 })
	if err := b.RegisterEntityForSync("strange1"); err != nil {
		t.Fatal(err)
	}
	testkit.Until(t, "those of the new type were announced", func() bool { return r.Stats().Published == 1001 })
	testkit.Until(t, "the others are counted", func() bool { return r.Stats().Foreign == 2001 })
}

// Many writers, some of them slow, some of which roll back, and several relays: what
// is committed is announced, each row once, and nothing else.
func TestManyWritersAndSeveralRelays(t *testing.T) {
	t.Parallel()
	d := newOutbox(t, "create table items (id text primary key)",
		"do $$ begin execute format('alter database %I set default_transaction_isolation = serializable', current_database()); end $$")
	e := newEar("items", "users")
	var relays []*outbox.Relay
	for i := range 3 {
		relays = append(relays, startRelay(t, outbox.Config{Pool: newPool(t, d.URL()), BatchSize: 5 + 20*i, Interval: 20 * time.Millisecond, Listen: i == 0}, e))
	}
	if err := outbox.EnableWakeUp(t.Context(), d.Connect(t)); err != nil {
		t.Fatal(err)
	}
	c, err := db.ParseConfig(d.URL())
	if err != nil {
		t.Fatal(err)
	}
	c.MaxConns = 32
	pool, err := pgxpool.NewWithConfig(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()

	var committed, rolledBack sync.Map
	errRollback := errors.New("rolled back")
	var writers sync.WaitGroup
	for w := range 32 {
		writers.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 7))
			for i := range 40 {
				var keys []shared.EntityKey
				for k := range 1 + random.IntN(4) {
					keys = append(keys, shared.EntityKey{Entity: []shared.EntityType{"items", "users"}[k%2], ID: fmt.Sprint(w, ".", i, ".", k)})
				}
				fate := &committed
				if random.IntN(4) == 0 {
					fate = &rolledBack
				}
				err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
					err := outbox.NotifyTx(t.Context(), tx, keys[0])
					// One of four takes its time between two statements, and the last
					// ones of some writers are long.
					if hold := random.IntN(40); i == 39 && w%8 == 0 || hold < 10 {
						time.Sleep(time.Duration(hold) * time.Millisecond * time.Duration(1+w%8*4))
					}
					err = errors.Join(err, outbox.NotifyTx(t.Context(), tx, keys[1:]...))
					if err == nil && fate == &rolledBack {
						err = errRollback
					}
					return err
				})
				if err != nil && !errors.Is(err, errRollback) {
					t.Error(err)
				}
				for _, key := range keys {
					fate.Store(key, true)
				}
			}
		})
	}
	writers.Wait()
	want := 0
	committed.Range(func(any, any) bool { want++; return true })
	testkit.Until(t, "nothing is left", func() bool { return len(waiting(t, d)) == 0 })
	var published uint64
	testkit.Until(t, "all are counted", func() bool {
		published = 0
		for _, r := range relays {
			published += r.Stats().Published
		}
		return published >= uint64(want)
	})
	heard := e.all()
	for key, n := range heard {
		if _, ok := committed.Load(key); !ok {
			t.Errorf("%v was announced and not committed", key)
		}
		if n != 1 {
			t.Errorf("%v was announced %d times", key, n)
		}
	}
	if len(heard) != want || published != uint64(want) {
		t.Errorf("%d keys were committed, %d announced, from %d rows", want, len(heard), published)
	}
	for i, r := range relays {
		t.Logf("relay %d announced %d of %d", i, r.Stats().Published, want)
		if s := r.Stats(); s.Failed > 0 {
			t.Errorf("relay %d was in the way of others, or they in its: %+v", i, s)
		}
	}
}

// Close lets a round finish that is under way, and gives it up when it takes too
// long: then the rows stay.
func TestClosingARelay(t *testing.T) {
	t.Parallel()
	d := newOutbox(t)
	pool := newPool(t, d.URL())
	e := newEar("items")
	entered, leave := make(chan struct{}, 10), make(chan struct{})
	e.refusing(func([]shared.EntityKey) error {
		entered <- struct{}{}
		<-leave
		return nil
	})
	r := startRelay(t, outbox.Config{Pool: pool}, e)
	write(t, pool, itemKey("1"))
	<-entered
	time.AfterFunc(50*time.Millisecond, func() { close(leave) })
	closeRelay(t, r)
	closeRelay(t, r)
	expectWaiting(t, d)
	if r.Stats().Published != 1 {
		t.Errorf("%+v", r.Stats())
	}

	leave = make(chan struct{})
	r = startRelay(t, outbox.Config{Pool: pool}, e)
	write(t, pool, itemKey("2"))
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Close returned %v", err)
	}
	close(leave)
	closeRelay(t, r)
	expectWaiting(t, d, "items 2")
}
