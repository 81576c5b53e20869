package outbox_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
)

var _ outbox.Publisher = (*bridge.Bridge)(nil)

// newsEar is an ear that takes events as well, as "topic id".
type newsEar struct {
	*ear

	more     sync.Mutex // guards what follows
	channels []string
	events   []string
	last     shared.Event
	fail     func(topic shared.Topic, id string) error
}

func newNewsEar(channels ...string) *newsEar {
	return &newsEar{ear: newEar("items"), channels: channels}
}

func (e *newsEar) Channels() []string {
	e.more.Lock()
	defer e.more.Unlock()
	return e.channels
}

func (e *newsEar) register(channel string) {
	e.more.Lock()
	defer e.more.Unlock()
	e.channels = append(slices.Clip(e.channels), channel)
}

func (e *newsEar) PublishEvent(_ context.Context, event shared.Event, topics ...shared.Topic) error {
	e.more.Lock()
	defer e.more.Unlock()
	if e.fail != nil {
		if err := e.fail(topics[0], event.ID()); err != nil {
			return err
		}
	}
	if err := topics[0].Validate(); err != nil {
		return err
	}
	e.events, e.last = append(e.events, fmt.Sprint(topics[0], " ", event.ID())), event
	return nil
}

func (e *newsEar) failing(f func(topic shared.Topic, id string) error) {
	e.more.Lock()
	defer e.more.Unlock()
	e.fail = f
}

func (e *newsEar) published() []string {
	e.more.Lock()
	defer e.more.Unlock()
	return slices.Clone(e.events)
}

func (e *newsEar) expect(t *testing.T, want ...string) {
	t.Helper()
	testkit.Until(t, "the events are published", func() bool { return len(e.published()) >= len(want) })
	if got := e.published(); !slices.Equal(got, want) {
		t.Errorf("published: %q, want %q", got, want)
	}
}

func newEvent(t testing.TB, id string) shared.Event {
	t.Helper()
	e, err := shared.NewEvent(shared.EventFields{ID: id, Source: "/test", Type: "said", Time: time.Unix(0, 0), Data: json.RawMessage(`{"a":1.50,"b":"\u0000"}`)})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// say commits events of a topic, with nothing else.
func say(t testing.TB, conn outbox.Beginner, topic shared.Topic, ids ...string) {
	t.Helper()
	err := pgx.BeginFunc(context.Background(), conn, func(tx pgx.Tx) error {
		for _, id := range ids {
			if err := outbox.PublishTx(context.Background(), tx, topic, newEvent(t, id)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// waitingEvents returns how many events are in the outbox.
func waitingEvents(t testing.TB, d *pgtest.Database) (n int) {
	t.Helper()
	conn := d.Connect(t)
	defer conn.Close(context.Background()) // it is called often
	if err := conn.QueryRow(context.Background(), "select count(*) from entity_sync_outbox_events").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// An event leaves when its transaction commits, as it was made, and never when it rolls back.
func TestPublishTxIsPartOfTheTransaction(t *testing.T) {
	t.Parallel()
	d := newOutbox(t)
	pool := newPool(t, d.URL())
	e := newNewsEar("news")
	r := startRelay(t, outbox.Config{Pool: pool}, e)
	failure := errors.New("changed my mind")
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		if err := outbox.PublishTx(t.Context(), tx, "news", newEvent(t, "first")); err != nil {
			return err
		}
		err := pgx.BeginFunc(t.Context(), tx, func(part pgx.Tx) error {
			return errors.Join(outbox.PublishTx(t.Context(), part, "news", newEvent(t, "ghost")), failure)
		})
		if !errors.Is(err, failure) {
			t.Error(err)
		}
		say(t, pool, "news.uk", "meanwhile") // and so the relay has looked
		e.expect(t, "news.uk meanwhile")
		return outbox.PublishTx(t.Context(), tx, "news.fr", newEvent(t, "second"))
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		return errors.Join(outbox.PublishTx(t.Context(), tx, "news", newEvent(t, "ghost")), failure)
	})
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	for id, end := range map[string]func(*sql.Tx) error{"ghost": (*sql.Tx).Rollback, "third": (*sql.Tx).Commit} {
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(outbox.PublishSQLTx(t.Context(), tx, "news", newEvent(t, id)), end(tx)); err != nil {
			t.Fatal(err)
		}
	}
	e.expect(t, "news.uk meanwhile", "news first", "news.fr second", "news third")
	if got, want := string(e.last.JSON()), string(newEvent(t, "third").JSON()); got != want {
		t.Errorf("the event came as %s, want %s", got, want)
	}
	testkit.Until(t, "nothing is left", func() bool { return waitingEvents(t, d) == 0 && r.Stats().Published == 4 })
}

func TestABadEventIsRefusedBeforeItIsWritten(t *testing.T) {
	t.Parallel()
	d := newOutbox(t)
	err := pgx.BeginFunc(t.Context(), d.Connect(t), func(tx pgx.Tx) error {
		for _, topic := range []shared.Topic{"", "a..b", "*", "a\x00", shared.Topic(strings.Repeat("x", 256))} {
			if err := outbox.PublishTx(t.Context(), tx, topic, newEvent(t, "1")); !errors.Is(err, shared.ErrBadTopic) {
				t.Errorf("%q: %v, want ErrBadTopic", topic, err)
			}
		}
		if err := outbox.PublishTx(t.Context(), tx, "news", shared.Event{}); !errors.Is(err, shared.ErrBadEvent) {
			t.Errorf("%v, want ErrBadEvent", err)
		}
		return nil
	})
	if err == nil {
		err = outbox.PublishTx(t.Context(), nil, "news", newEvent(t, "1"))
		if err == nil {
			t.Error("it published in no transaction")
		}
		err = nil
	}
	if err != nil {
		t.Fatal(err)
	}
	if n := waitingEvents(t, d); n != 0 {
		t.Errorf("%d rows were written", n)
	}
}

// Of each writer the events leave in the order in which it committed them, once, however many
// relays there are.
func TestTheOrderOfSeveralWritersAndRelays(t *testing.T) {
	t.Parallel()
	d := newOutbox(t, "do $$ begin execute format('alter database %I set default_transaction_isolation = serializable', current_database()); end $$")
	e := newNewsEar("news", "sport")
	for range 3 {
		startRelay(t, outbox.Config{Pool: newPool(t, d.URL()), BatchSize: 7, Interval: 5 * time.Millisecond}, e)
	}
	const writers, transactions, each = 4, 30, 3
	var writing sync.WaitGroup
	for w := range writers {
		conn := d.Connect(t)
		writing.Go(func() {
			for i := range transactions {
				topic := shared.Topic([]string{"news", "sport.uk"}[i%2])
				var ids []string
				for k := range each {
					ids = append(ids, fmt.Sprintf("%d %03d", w, i*each+k))
				}
				say(t, conn, topic, ids...)
			}
		})
	}
	writing.Wait()
	testkit.Until(t, "all are published", func() bool { return waitingEvents(t, d) == 0 })
	of := make(map[string][]string)
	for _, published := range e.published() {
		_, id, _ := strings.Cut(published, " ")
		writer, n, _ := strings.Cut(id, " ")
		of[writer] = append(of[writer], n)
	}
	for w, ids := range of {
		if len(ids) != transactions*each || !slices.IsSorted(ids) || len(slices.Compact(ids)) != transactions*each {
			t.Errorf("the events of writer %s were published as %q", w, ids)
		}
	}
	if len(of) != writers {
		t.Errorf("events of %d writers were published", len(of))
	}
}

// An event that the bus does not take is published later, before those that follow, and holds up
// no key.
func TestEventsThatFailAreRepeatedInOrder(t *testing.T) {
	t.Parallel()
	d := newOutbox(t)
	pool := newPool(t, d.URL())
	e := newNewsEar("news")
	e.failing(func(_ shared.Topic, id string) error {
		if id == "2" {
			return shared.ErrUnavailable
		}
		return nil
	})
	var log testkit.Buffer
	r := startRelay(t, outbox.Config{Pool: pool, Logger: slog.New(slog.NewTextHandler(&log, nil))}, e)
	say(t, pool, "news", "1", "2", "3")
	testkit.Until(t, "it failed a few times", func() bool { return r.Stats().Failing > 2 })
	write(t, pool, itemKey("1"))
	testkit.Until(t, "the key is announced", func() bool { return e.times(itemKey("1")) == 1 })
	e.expect(t, "news 1")
	if n := log.Count("relaying events of the outbox failed"); n == 0 {
		t.Error("the log does not say so")
	}
	e.failing(nil)
	e.expect(t, "news 1", "news 2", "news 3")
	testkit.Until(t, "the figures are well", func() bool { return r.Stats().Failing == 0 && r.Stats().Waiting == 0 })
}

// What no PublishTx would have written is removed and counted, and blocks nothing.
func TestPoisonedEvents(t *testing.T) {
	t.Parallel()
	d := newOutbox(t)
	insert := func(topic, event string) {
		t.Helper()
		d.Exec(t, fmt.Sprintf("insert into entity_sync_outbox_events (topic, event) values (%s, %s)", topic, event))
	}
	const event = `'{"specversion": "1.0", "id": "fine", "source": "/s", "type": "t"}'`
	insert("'news..uk'", event)
	insert("repeat('x', 300)", event)
	insert("''", event)
	insert("'news'", "'1'")
	insert("'news'", `'{"specversion":"1.0"}'`)
	insert("'news'", "to_json(repeat('x', 1000000))")
	insert("'news'", event)
	pool := newPool(t, d.URL())
	e := newNewsEar("*")
	e.failing(func(_ shared.Topic, id string) error {
		if id == "large" {
			return fmt.Errorf("the broker says: %w", shared.ErrTooLarge)
		}
		return nil
	})
	say(t, pool, "news", "large", "last")
	r := startRelay(t, outbox.Config{Pool: pool}, e)
	e.expect(t, "news fine", "news last")
	testkit.Until(t, "the figures say so", func() bool { return r.Stats().Bad == 7 && r.Stats().Published == 2 && r.Stats().Failing == 0 })
	if n := waitingEvents(t, d); n != 0 {
		t.Errorf("%d events are left", n)
	}
}

// Events of channels that are not known here are left to others, and taken once the channel is
// registered.
func TestUnknownChannelsAreLeftAlone(t *testing.T) {
	t.Parallel()
	d := newOutbox(t)
	pool := newPool(t, d.URL())
	say(t, pool, "strange.one", "1", "2")
	say(t, pool, "news.uk", "3")
	e := newNewsEar("news")
	r := startRelay(t, outbox.Config{Pool: pool, BatchSize: 1}, e)
	e.expect(t, "news.uk 3")
	testkit.Until(t, "the others are counted", func() bool { return r.Stats().Foreign == 2 && r.Stats().Waiting == 0 })
	e.register("strange")
	e.expect(t, "news.uk 3", "strange.one 1", "strange.one 2")
	testkit.Until(t, "none is left", func() bool { return r.Stats().Foreign == 0 })
}

// oldOutbox makes the outbox as versions before events made it, with a row, a relayer and a writer.
func oldOutbox(t *testing.T) (d *pgtest.Database, relayer, writer string) {
	t.Helper()
	d = newOutbox(t, "drop table entity_sync_outbox_events", "comment on table entity_sync_outbox is 'Entity Sync: keys to announce (schema 3)'",
		`create trigger entity_sync_wake_up after insert on entity_sync_outbox for each statement execute function entity_sync_wake_up()`,
		"insert into entity_sync_outbox (entity, id) values ('items', 'old')")
	relayer = d.NewRole(t, "grant select, update, delete on entity_sync_outbox to %[1]s")
	writer = "scribe"
	d.Exec(t, "do $$ begin if to_regrole('scribe') is null then create role scribe login; end if; end $$; grant insert on entity_sync_outbox to scribe")
	return d, relayer, writer
}

// A relay works with the outbox of an older version, and publishes events once a newer one has
// made the place for them. Nothing that was written is lost, roles that relay may go on, and roles
// that write keys may not write events. A relay of an older version leaves events alone.
func TestEventsComeToAnOutboxOfAnOlderVersion(t *testing.T) {
	t.Parallel()
	d, relayer, writer := oldOutbox(t)
	e := newNewsEar("news")
	pool := newPool(t, d.URLAs(relayer))
	var log testkit.Buffer
	r := startRelay(t, outbox.Config{Pool: pool, Interval: time.Hour, Listen: true, Logger: slog.New(slog.NewTextHandler(&log, nil))}, e)
	testkit.Until(t, "the old key is announced", func() bool { return e.times(itemKey("old")) == 1 })
	err := pgx.BeginFunc(t.Context(), d.Connect(t), func(tx pgx.Tx) error { return outbox.PublishTx(t.Context(), tx, "news", newEvent(t, "1")) })
	if err == nil || !strings.Contains(err.Error(), "outbox.EnsureSchema") {
		t.Errorf("publishing: %v, want an error that says what to do", err)
	}
	if r.Stats().Failed != 0 || log.Count("level=WARN")+log.Count("level=ERROR") != 0 {
		t.Errorf("%+v; the log says %s", r.Stats(), log.String())
	}

	if err := outbox.EnsureSchema(t.Context(), d.Connect(t)); err != nil {
		t.Fatal(err)
	}
	older := newEar("items")
	olderRelay := startRelay(t, outbox.Config{Pool: pool}, older)
	write(t, d.Connect(t), itemKey("new"))
	testkit.Until(t, "the new key is announced", func() bool { return e.times(itemKey("new"))+older.times(itemKey("new")) == 1 })
	testkit.Until(t, "the older relay has looked", func() bool { return olderRelay.Stats().Waiting == 0 })
	say(t, d.Connect(t), "news", "1")
	testkit.Until(t, "the relay sees the table", func() bool {
		r.Wake()
		return len(e.published()) > 0
	})
	say(t, d.Connect(t), "news", "2")
	e.expect(t, "news 1", "news 2") // by the trigger: the relay does not look for an hour

	conn, err := pgx.Connect(t.Context(), d.URLAs(writer))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	write(t, conn, itemKey("of the writer"))
	err = pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error { return outbox.PublishTx(t.Context(), tx, "news", newEvent(t, "forged")) })
	if err == nil || !strings.Contains(err.Error(), "outbox.Schema says what to grant") {
		t.Errorf("a role that may write keys published: %v", err)
	}
}

// A relay without rights to events says how to grant them, and announces keys all the same.
func TestARelayWithoutRightsToEvents(t *testing.T) {
	t.Parallel()
	d := newOutbox(t)
	role := d.NewRole(t, "grant select, update, delete on entity_sync_outbox to %[1]s; grant select on entity_sync_outbox_events to %[1]s")
	say(t, d.Connect(t), "news", "1")
	e := newNewsEar("news")
	var log testkit.Buffer
	startRelay(t, outbox.Config{Pool: newPool(t, d.URLAs(role)), Logger: slog.New(slog.NewTextHandler(&log, nil))}, e)
	want := fmt.Sprintf("as the owner of the outbox, run: grant delete on public.entity_sync_outbox_events to %s;", role)
	testkit.Until(t, "the log has the remedy", func() bool { return log.Count(want) > 0 })
	write(t, d.Connect(t), itemKey("1"))
	testkit.Until(t, "the key is announced", func() bool { return e.times(itemKey("1")) == 1 })
	d.Exec(t, strings.TrimPrefix(want, "as the owner of the outbox, run: "))
	testkit.Until(t, "the event is published, and removed", func() bool { return waitingEvents(t, d) == 0 })
}

// A relay that is stuck while it publishes does not keep the others from events for ever: PostgreSQL
// ends its transaction.
func TestARelayThatIsCutOffLeavesItsTurn(t *testing.T) {
	t.Parallel()
	d := newOutbox(t)
	stuck, well := newNewsEar("news"), newNewsEar("news")
	entered, leave := make(chan struct{}, 1), make(chan struct{})
	defer close(leave)
	stuck.failing(func(shared.Topic, string) error {
		entered <- struct{}{}
		<-leave
		return errors.New("too late")
	})
	startRelay(t, outbox.Config{Pool: newPool(t, d.URL())}, stuck)
	pool := newPool(t, d.URL())
	say(t, pool, "news", "1")
	<-entered
	r := startRelay(t, outbox.Config{Pool: pool}, well)
	write(t, pool, itemKey("1"))
	testkit.Until(t, "the other relay announces keys", func() bool { return well.times(itemKey("1")) == 1 })
	if n := len(well.published()); n != 0 {
		t.Errorf("two relays have their turn: %d events", n)
	}
	var limited bool
	err := pool.QueryRow(t.Context(), `select count(*) = 1 from pg_locks where locktype = 'advisory' and classid = 731141610
		and database = (select oid from pg_database where datname = current_database())`).Scan(&limited)
	if err != nil || !limited {
		t.Errorf("one relay has its turn: %v, %v", limited, err)
	}
	testkit.Until(t, "the event is published", func() bool { return len(well.published()) == 1 && r.Stats().Published == 2 })
}
