package test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/entity-sync/entity-sync/bridge/nsqbus"
	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/nodetest"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

// startAnnouncer runs a node that only announces items until the test ends.
func startAnnouncer(t testing.TB, c es.Config) *node {
	t.Helper()
	n := &node{nodetest.Start(t, c)}
	if err := es.Announces(n.EntitySync, items); err != nil {
		t.Fatal(err)
	}
	return n
}

// A program that only writes reaches the clients of all nodes, on topics of their own
// and on a shared one, and has no channel on the topic of what it announces.
func TestAProgramThatOnlyAnnounces(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		config      es.Config
		topic       string
		subscribers int // of the topic: the nodes that serve, and on a shared topic the announcer's sessions
	}{
		"a topic for each type": {es.Config{NSQ: nsqbus.Config{Prefix: "my."}}, "my.items", 2},
		"a shared topic":        {es.Config{NSQ: nsqbus.Config{Prefix: "my.", SharedTopic: "changes"}}, "my.changes", 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nsqd := nsqdtest.Start(t)
			c.config.NSQAddr = nsqd.Addr
			var db database
			here, there := startNode(t, &db, c.config), startNode(t, &db, c.config)
			untilReady(t, here, there)
			writer := startAnnouncer(t, c.config)
			clients := []*conn{here.dial(t, "anna"), there.dial(t, "ben")}
			for _, client := range clients {
				client.watch("100")
			}
			for range 10 {
				rev := db.write("100")
				writer.notify(t, "100")
				for _, client := range clients {
					client.readUntil(rev)
				}
			}
			testkit.Until(t, "all who subscribe have", func() bool { return subscriptions(t, nsqd)[c.topic] == c.subscribers })
			if got := writer.Bridge.Stats().Entities; len(got) != 0 {
				t.Errorf("the writer has %+v, want nothing registered", got)
			}
			if err := es.Announces(writer.EntitySync, "names of 64 bytes are too long after a prefix", "a"); !errors.Is(err, shared.ErrBadEntity) {
				t.Errorf("announcing a bad name returned %v, want ErrBadEntity", err)
			}
		})
	}
}

// A name that is too long after the prefix is refused when it is announced, not when
// the first change is.
func TestAnnouncingANameThatIsNoTopic(t *testing.T) {
	t.Parallel()
	nsqd := nsqdtest.Start(t)
	n := startAnnouncer(t, es.Config{NSQAddr: nsqd.Addr, NSQ: nsqbus.Config{Prefix: "fifty.bytes.with.the.dots.fifty.bytes.with.the.dots."}})
	if err := es.Announces(n.EntitySync, "thirteen_more"); !errors.Is(err, shared.ErrBadEntity) {
		t.Errorf("it returned %v, want ErrBadEntity", err)
	}
}

// nsqd is away for a while: Notify says so, and what is announced later arrives.
func TestAnAnnouncerWithoutNSQD(t *testing.T) {
	t.Parallel()
	nsqd := nsqdtest.Start(t)
	var db database
	n := startNode(t, &db, es.Config{NSQAddr: nsqd.Addr})
	untilReady(t, n)
	writer := startAnnouncer(t, es.Config{NSQAddr: nsqd.Addr})
	c := n.dial(t, "me")
	c.watch("100")
	nsqd.Kill(t)
	db.write("100")
	if err := writer.Notify(t.Context(), item("100")); !errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("Notify without nsqd returned %v, want ErrUnavailable", err)
	}
	nsqd.Start(t)
	untilReady(t, n)
	rev := db.write("100")
	writer.notify(t, "100")
	c.readUntil(rev)
}

// A node that serves nothing relays the outbox: what it takes from there reaches the
// clients of a node that has none.
func TestTheOutboxOfANodeThatOnlyAnnounces(t *testing.T) {
	t.Parallel()
	nsqd := nsqdtest.Start(t)
	d := newItems(t)
	pool, err := db.Open(t.Context(), d.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close) // after the relay's node
	var rows database
	n := startNode(t, &rows, es.Config{NSQAddr: nsqd.Addr})
	untilReady(t, n)
	relay := startAnnouncer(t, es.Config{NSQAddr: nsqd.Addr, Outbox: &outbox.Config{Pool: pool}})
	c := n.dial(t, "me")
	c.watch("1")
	rev := rows.write("1")
	err = pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		return outbox.NotifyTx(t.Context(), tx, item("1"), shared.EntityKey{Entity: "orders", ID: "1"})
	})
	if err != nil {
		t.Fatal(err)
	}
	c.readUntil(rev)
	testkit.Until(t, "what it does not announce is left to others", func() bool {
		var waiting string
		err := pool.QueryRow(t.Context(), "select coalesce(string_agg(entity, ' '), '') from entity_sync_outbox").Scan(&waiting)
		return err == nil && waiting == "orders" && relay.OutboxRelay().Stats().Published == 1
	})
}
