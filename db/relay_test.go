package db_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/shared"
)

var _ db.Announcer = (*bridge.Bridge)(nil)

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

func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v in vain until %s", patience, what)
		}
	}
}

// logbook is a log that a test reads.
type logbook struct {
	mu    sync.Mutex
	lines strings.Builder
}

func (l *logbook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(b)
}

func (l *logbook) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.lines.String(), text)
}

// startRelay runs a relay until the test ends.
func startRelay(t testing.TB, o db.Outbox, to db.Announcer) *db.Relay {
	t.Helper()
	if o.Logger == nil {
		o.Logger = canary.Logger(canary.Output(t))
	}
	r, err := o.Start(to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeRelay(t, r) })
	return r
}

func closeRelay(t testing.TB, r *db.Relay) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.Close(ctx); err != nil {
		t.Error(err)
	}
}

// write commits the keys, with nothing else.
func write(t testing.TB, conn db.Beginner, keys ...shared.EntityKey) {
	t.Helper()
	err := pgx.BeginFunc(context.Background(), conn, func(tx pgx.Tx) error { return db.NotifyTx(context.Background(), tx, keys...) })
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsCommittedIsAnnouncedOnceAndRemoved(t *testing.T) {
	d := newOutbox(t)
	pool := newPool(t, d.URL())
	e := newEar("items", "users")
	r := startRelay(t, db.Outbox{Pool: pool, BatchSize: 7}, e)
	user := shared.EntityKey{Entity: "users", ID: "1"}
	var keys []shared.EntityKey
	for i := range 100 {
		keys = append(keys, itemKey(fmt.Sprint(i)))
	}
	write(t, pool, append(keys, user)...)
	until(t, "all was announced", func() bool { return len(e.all()) == 101 })
	for key, n := range e.all() {
		if n != 1 {
			t.Errorf("%v was announced %d times", key, n)
		}
	}
	until(t, "the figures are there", func() bool { return r.Stats().Published == 101 })
	expectWaiting(t, d)
	if s := r.Stats(); s.Bad != 0 || s.Failed != 0 {
		t.Errorf("%+v", s)
	}
}

func TestABadConfigurationIsAnError(t *testing.T) {
	pool := newPool(t, newOutbox(t).URL())
	for want, o := range map[string]db.Outbox{
		"Pool": {}, "Interval": {Pool: pool, Interval: -1}, "BatchSize": {Pool: pool, BatchSize: -1},
	} {
		if _, err := o.Start(newEar()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error that names %s", err, want)
		}
	}
	var none *db.Relay
	none.Wake()
	if none.Stats() != (db.OutboxStats{}) {
		t.Error("a nil Relay has figures")
	}
}

// Rows of entity types that are not known here are left to others, are in nobody's
// way, and are taken as soon as the type is registered.
func TestUnknownEntityTypesAreLeftAlone(t *testing.T) {
	d := newOutbox(t, "insert into entity_sync_outbox (entity, id) select 'strange' || i % 3, i from generate_series(1, 3000) i")
	pool := newPool(t, d.URL())
	b, err := bridge.New(bridge.Config{Bus: new(membus.Broker).NewNode(), Logger: canary.Logger(canary.Output(t)), Fetch: func(context.Context, shared.EntityKey, string) ([][]byte, error) { return nil, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close(context.Background())
	r := startRelay(t, db.Outbox{Pool: pool, BatchSize: 10}, b)
	if err := b.RegisterTopic("topic", bridge.Topic{Message: func(string) {}, Gap: func() {}}); err != nil {
		t.Fatal(err)
	}
	if err := b.RegisterEntityForSync("items"); err != nil {
		t.Fatal(err)
	}
	write(t, pool, itemKey("1"), shared.EntityKey{Entity: "topic", ID: "1"})
	until(t, "the known one was announced", func() bool { return b.Stats().Notified == 1 })
	until(t, "the others are counted", func() bool { return r.Stats().Foreign == 3001 && r.Stats().Waiting == 0 })
	if err := b.RegisterEntityForSync("strange1"); err != nil {
		t.Fatal(err)
	}
	until(t, "those of the new type were announced", func() bool { return r.Stats().Published == 1001 })
	until(t, "the others are counted", func() bool { return r.Stats().Foreign == 2001 })
}

// What no NotifyTx would have written blocks nothing.
func TestPoisonedRows(t *testing.T) {
	d := newOutbox(t)
	d.Exec(t, "insert into entity_sync_outbox (entity, id) select 'items', x from unnest(array['', e'a\\nb', repeat('x', 1000000), repeat('y', 256), repeat('ü', 200), 'fine', 'fine']) x")
	d.Exec(t, "insert into entity_sync_outbox (entity, id) values ('', '1'), (repeat('e', 2000), '1'), ('a b', '2')")
	d.Exec(t, "insert into entity_sync_outbox (entity, id, written) values ('never', '1', 'infinity'), ('always', '1', '-infinity')")
	pool := newPool(t, d.URL())
	e := newEar("items")
	var log logbook
	r := startRelay(t, db.Outbox{Pool: pool, BatchSize: 2, Logger: slog.New(slog.NewTextHandler(&log, nil))}, e)
	until(t, "all were dealt with", func() bool { s := r.Stats(); return s.Bad == 5 && s.Published == 2 && s.Foreign == 5 })
	if got := e.all(); len(got) != 1 {
		t.Errorf("announced %v", got)
	}
	if log.count("what is no key") == 0 {
		t.Error("the log says nothing")
	}
}

func TestAnnouncementsThatFailAreRepeated(t *testing.T) {
	d := newOutbox(t)
	pool := newPool(t, d.URL())
	e := newEar("items", "users", "sick")
	down := errors.New("the bus is down")
	e.refusing(func([]shared.EntityKey) error { return down })
	var log logbook
	r := startRelay(t, db.Outbox{Pool: pool, Logger: slog.New(slog.NewTextHandler(&log, nil))}, e)
	write(t, pool, itemKey("1"))
	until(t, "it failed a few times", func() bool { return r.Stats().Failing > 3 })
	until(t, "the row is there still", func() bool { return r.Stats().Waiting == 1 && r.Stats().Oldest > 0 })
	e.refusing(nil)
	until(t, "it was announced", func() bool { return e.times(itemKey("1")) == 1 && r.Stats().Published == 1 })
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
		until(t, "the other type was announced", func() bool { return e.times(user) > 0 })
	}
	t.Logf("20 keys in %v beside a type that fails", time.Since(begin))
	until(t, "only the sick ones are left", func() bool { return len(waiting(t, d)) == 20 })
	double := 0
	for key, n := range e.all() {
		if key.Entity == "users" {
			double += n - 1
		}
	}
	if double > 1 { // the one that was with the first sick one
		t.Errorf("%d keys were announced again because of others", double)
	}
	if s := r.Stats(); s.Failing == 0 || log.count("announcing from the outbox failed") > 12 {
		t.Errorf("%+v; the log says it %d times", s, log.count("announcing from the outbox failed"))
	}
	e.refusing(nil)
	until(t, "the sick one was announced, too", func() bool { return len(e.all()) == 41 })
	until(t, "nothing is left", func() bool { return len(waiting(t, d)) == 0 })
}

// A relay that is stuck in an announcement keeps no other from its work, and what it
// has taken is announced when it is gone.
func TestARelayThatIsStuckHoldsUpNoOther(t *testing.T) {
	d := newOutbox(t)
	pool := newPool(t, d.URL())
	stuck, well := newEar("items"), newEar("items")
	entered, leave := make(chan struct{}), make(chan struct{})
	stuck.refusing(func([]shared.EntityKey) error {
		close(entered)
		<-leave
		return errors.New("too late")
	})
	r := startRelay(t, db.Outbox{Pool: pool}, stuck)
	defer close(leave)
	write(t, pool, itemKey("1"))
	<-entered
	startRelay(t, db.Outbox{Pool: pool}, well)
	write(t, pool, itemKey("2"))
	until(t, "the other relay goes on", func() bool { return well.times(itemKey("2")) == 1 })
	if well.times(itemKey("1")) != 0 {
		t.Error("two relays have the same row")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	r.Close(ctx) // in vain, as long as it is stuck
	d.Exec(t, "select pg_terminate_backend(pid) from pg_stat_activity where state = 'idle in transaction'")
	until(t, "what it had is announced", func() bool { return well.times(itemKey("1")) == 1 })
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
	d := newOutbox(t, "insert into entity_sync_outbox (entity, id) values ('slow', '1')")
	pool := newPool(t, d.URL())
	e := &slowEar{ear: newEar("slow", "items")}
	e.first = func() { write(t, pool, itemKey("1")) }
	var attempts int64
	e.refusing(func([]shared.EntityKey) error {
		attempts = e.attempts.Load()
		return nil
	})
	startRelay(t, db.Outbox{Pool: pool}, e)
	until(t, "the other entity type is announced", func() bool { return e.times(itemKey("1")) > 0 })
	e.mu.Lock()
	defer e.mu.Unlock()
	if attempts > 2 {
		t.Errorf("the other entity type had its turn after %d of the one that hangs", attempts)
	}
}

// A bus that cannot take many keys at once gets them all the same.
func TestABusThatCannotTakeABatch(t *testing.T) {
	d := newOutbox(t, "insert into entity_sync_outbox (entity, id) select 'items', i from generate_series(1, 60) i")
	e := newEar("items")
	e.refusing(func(keys []shared.EntityKey) error {
		if len(keys) > 10 {
			return errors.New("too much")
		}
		return nil
	})
	r := startRelay(t, db.Outbox{Pool: newPool(t, d.URL()), BatchSize: 40}, e)
	until(t, "all were announced", func() bool { return r.Stats().Published == 60 })
	if s := r.Stats(); s.Failed == 0 {
		t.Errorf("%+v", s)
	}
}

// Two transactions write to the outbox, and the one that wrote first commits last:
// who remembers how far it came misses it.
func TestWhatIsWrittenFirstAndCommittedLast(t *testing.T) {
	d := newOutbox(t)
	pool := newPool(t, d.URL())
	e := newEar("items")
	startRelay(t, db.Outbox{Pool: pool}, e)
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		if err := db.NotifyTx(t.Context(), tx, itemKey("first")); err != nil {
			return err
		}
		write(t, pool, itemKey("second"))
		until(t, "the second was announced", func() bool { return e.times(itemKey("second")) == 1 })
		if e.times(itemKey("first")) != 0 {
			t.Error("the first was announced before its commit")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the first was announced", func() bool { return e.times(itemKey("first")) == 1 })
}

// Many writers, some of them slow, some of which roll back, and several relays: what
// is committed is announced, each row once, and nothing else.
func TestManyWritersAndSeveralRelays(t *testing.T) {
	d := newOutbox(t, "create table items (id text primary key)",
		"do $$ begin execute format('alter database %I set default_transaction_isolation = serializable', current_database()); end $$")
	e := newEar("items", "users")
	var relays []*db.Relay
	for i := range 3 {
		relays = append(relays, startRelay(t, db.Outbox{Pool: newPool(t, d.URL()), BatchSize: 5 + 20*i, Interval: 20 * time.Millisecond, Listen: i == 0}, e))
	}
	if err := db.EnableWakeUp(t.Context(), d.Connect(t)); err != nil {
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
					err := db.NotifyTx(t.Context(), tx, keys[0])
					// One of four takes its time between two statements, and the last
					// ones of some writers are long.
					if hold := random.IntN(40); i == 39 && w%8 == 0 || hold < 10 {
						time.Sleep(time.Duration(hold) * time.Millisecond * time.Duration(1+w%8*4))
					}
					err = errors.Join(err, db.NotifyTx(t.Context(), tx, keys[1:]...))
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
	until(t, "nothing is left", func() bool { return len(waiting(t, d)) == 0 })
	var published uint64
	until(t, "all are counted", func() bool {
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

// The server is stopped without a word and started again, and every connection is
// ended by hand, under load: what is committed is announced.
func TestTheDatabaseGoesAwayAndComesBack(t *testing.T) {
	server, err := pgtest.New()
	if err != nil {
		t.Fatal(err)
	}
	server.CloseAtEnd(t)
	d := outboxOn(t, server, "create table items (id text primary key)")
	if err := errors.Join(db.Track(t.Context(), d.Connect(t), "items", "tracked", "id"), db.EnableWakeUp(t.Context(), d.Connect(t))); err != nil {
		t.Fatal(err)
	}
	e := newEar("items", "tracked")
	var relays []*db.Relay
	var logs [2]logbook
	for i := range logs {
		relays = append(relays, startRelay(t, db.Outbox{Pool: newPool(t, d.URL()), Listen: i == 0, Logger: slog.New(slog.NewTextHandler(&logs[i], nil))}, e))
	}
	pool := newPool(t, d.URL())
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	var committed sync.Map
	var done, failed atomic.Int64
	for w := range 8 {
		writers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				id := fmt.Sprint(w, ".", i)
				attempt, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				err := pgx.BeginFunc(attempt, pool, func(tx pgx.Tx) error {
					_, err := tx.Exec(attempt, "insert into items values ($1)", id)
					if err != nil {
						return err
					}
					return db.NotifyTx(attempt, tx, itemKey(id))
				})
				cancel()
				if err == nil {
					done.Add(1)
					committed.Store(id, true)
					continue
				}
				failed.Add(1)
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	defer writers.Wait()
	defer stop()
	more := func() {
		before := done.Load()
		until(t, "more is committed", func() bool { return done.Load() > before+50 })
	}
	for range 3 {
		more()
		server.Stop()
		before := failed.Load()
		until(t, "writers noticed", func() bool { return failed.Load() > before+4 })
		until(t, "a relay noticed", func() bool { return relays[0].Stats().Failing > 0 })
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		more()
		for range 3 {
			conn := d.Connect(t)
			if _, err := conn.Exec(t.Context(), "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend'"); err != nil {
				t.Fatal(err)
			}
			conn.Close(t.Context())
			more()
		}
	}
	stop()
	writers.Wait()
	until(t, "nothing is left", func() bool { return len(waiting(t, d)) == 0 })
	heard := e.all()
	rows, err := d.Connect(t).Query(t.Context(), "select id from items")
	if err != nil {
		t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	there := make(map[string]bool)
	for _, id := range ids {
		there[id] = true
		if heard[itemKey(id)] == 0 || heard[shared.EntityKey{Entity: "tracked", ID: id}] == 0 {
			t.Errorf("%s is committed and was not announced", id)
		}
	}
	for key := range heard {
		if !there[key.ID] {
			t.Errorf("%v was announced and is not committed", key)
		}
	}
	committed.Range(func(id, _ any) bool {
		if !there[id.(string)] {
			t.Errorf("%v was committed and is gone", id)
		}
		return true
	})
	double := 0
	for _, n := range heard {
		double += n - 1
	}
	t.Logf("%d rows committed, %d attempts failed, %d of %d keys announced again", len(ids), failed.Load(), double, len(heard))
	for i := range logs {
		until(t, fmt.Sprintf("relay %d has said that it failed and that it works again", i), func() bool {
			return logs[i].count("relaying the outbox failed") > 0 && logs[i].count("relayed again") > 0
		})
	}
}

// The relay says what is missing, and goes on when it is there.
func TestTheOutboxIsMadeLater(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t)
	pool := newPool(t, d.URL())
	e := newEar("items")
	var log logbook
	r := startRelay(t, db.Outbox{Pool: pool, Logger: slog.New(slog.NewTextHandler(&log, nil))}, e)
	until(t, "it failed", func() bool { return r.Stats().Failing > 2 })
	if log.count("db.EnsureSchema") == 0 {
		t.Error("the log does not say what to do")
	}
	if err := db.EnsureSchema(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	write(t, pool, itemKey("1"))
	until(t, "it was announced", func() bool { return e.times(itemKey("1")) == 1 })
	until(t, "the figures say so", func() bool { return r.Stats().Failing == 0 })
}

// A role with no more than the rights that OutboxSchema names can relay, where
// transactions are read-only by default, too.
func TestTheRightsOfARelay(t *testing.T) {
	d := newOutbox(t, "do $$ begin if to_regrole('relayer') is null then create role relayer login; end if; end $$",
		"grant select, update, delete on entity_sync_outbox to relayer",
		"do $$ begin execute format('alter database %I set default_transaction_read_only = on', current_database()); end $$")
	e := newEar("items")
	startRelay(t, db.Outbox{Pool: newPool(t, d.URLAs("relayer"))}, e)
	d.Exec(t, "begin read write; insert into entity_sync_outbox (entity, id) values ('items', '1'); commit")
	until(t, "it was announced", func() bool { return e.times(itemKey("1")) == 1 })
}

// With an interval that nobody would wait for, Wake and Listen have keys announced
// at once.
func TestBeingWoken(t *testing.T) {
	d := newOutbox(t)
	pool := newPool(t, d.URL())
	e := newEar("items")
	r := startRelay(t, db.Outbox{Pool: pool, Interval: time.Hour}, e)
	write(t, pool, itemKey("1"))
	r.Wake()
	until(t, "it was announced", func() bool { return e.times(itemKey("1")) == 1 })
	closeRelay(t, r)

	startRelay(t, db.Outbox{Pool: pool, Interval: time.Hour, Listen: true}, e)
	for range 2 {
		if err := db.EnableWakeUp(t.Context(), pool); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		id := fmt.Sprint("woken ", i)
		write(t, pool, itemKey(id))
		until(t, "it was announced", func() bool { return e.times(itemKey(id)) == 1 })
	}
	// The listener comes back, and asks for what it has missed.
	d.Exec(t, "select pg_terminate_backend(pid) from pg_stat_activity where query like 'listen%'")
	write(t, pool, itemKey("2"))
	until(t, "it was announced", func() bool { return e.times(itemKey("2")) == 1 })

	for range 2 {
		if err := db.DisableWakeUp(t.Context(), pool); err != nil {
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
	d := newOutbox(t)
	pool := newPool(t, d.URL())
	e := &countingEar{ear: newEar("items")}
	r := startRelay(t, db.Outbox{Pool: pool}, e)
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

// Close lets a round finish that is under way, and gives it up when it takes too
// long: then the rows stay.
func TestClosingARelay(t *testing.T) {
	d := newOutbox(t)
	pool := newPool(t, d.URL())
	e := newEar("items")
	entered, leave := make(chan struct{}, 10), make(chan struct{})
	e.refusing(func([]shared.EntityKey) error {
		entered <- struct{}{}
		<-leave
		return nil
	})
	r := startRelay(t, db.Outbox{Pool: pool}, e)
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
	r = startRelay(t, db.Outbox{Pool: pool}, e)
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

// Rows are as old as the database says, whatever the clocks, and the log says that
// they wait: once, and not for a row that is gone a moment later.
func TestTheLogSaysThatTheOutboxIsBehind(t *testing.T) {
	d := newOutbox(t,
		"insert into entity_sync_outbox (entity, id, written) values ('items', '1', now() - interval '1 hour'), ('strange', '1', now() - interval '1 day')",
		"insert into entity_sync_outbox (entity, id, written) values ('users', '1', now() + interval '1 hour')") // a clock that was set back
	pool := newPool(t, d.URL())
	e := newEar("items", "users")
	e.refusing(func([]shared.EntityKey) error { return errors.New("the bus is down") })
	var log logbook
	r := startRelay(t, db.Outbox{Pool: pool, Logger: slog.New(slog.NewTextHandler(&log, nil))}, e)
	until(t, "it says so", func() bool { return log.count("outbox is behind") == 1 && log.count("entity=strange") == 1 })
	if s := r.Stats(); s.Waiting != 2 || s.Foreign != 1 || s.Oldest < time.Hour || s.Oldest > time.Hour+time.Minute {
		t.Errorf("%+v", s)
	}
	e.refusing(nil)
	until(t, "it is gone", func() bool { return r.Stats().Waiting == 0 && r.Stats().Oldest == 0 && r.Stats().Published == 2 })
	if log.count("outbox is behind") != 1 || log.count("entity=strange") != 1 {
		t.Error("it says so again and again")
	}
	if e.times(shared.EntityKey{Entity: "users", ID: "1"}) != 1 {
		t.Error("what was written in the future is not announced")
	}
}

// Very much waits, of several entity types, with figures that the planner has from
// when nothing did: no type waits for another, and it is soon done.
func TestALargeBacklog(t *testing.T) {
	d := newOutbox(t, "analyze entity_sync_outbox", "insert into entity_sync_outbox (entity, id) select 'items', i from generate_series(1, 200000) i", "insert into entity_sync_outbox (entity, id) values ('users', '1')")
	pool := newPool(t, d.URL())
	e := newEar("items", "users")
	begin := time.Now()
	r := startRelay(t, db.Outbox{Pool: pool}, e)
	until(t, "the other type was announced", func() bool { return e.times(shared.EntityKey{Entity: "users", ID: "1"}) == 1 })
	t.Logf("the other type after %v", time.Since(begin))
	until(t, "all were announced", func() bool { return r.Stats().Published == 200001 })
	t.Logf("200,000 rows in %v", time.Since(begin))
	if ids := slices.Collect(maps.Keys(e.all())); len(ids) != 200001 {
		t.Errorf("%d keys were announced", len(ids))
	}
}
