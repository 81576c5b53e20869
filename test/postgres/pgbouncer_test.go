package postgres

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/nodetest"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

// Two nodes reach the database through a PgBouncer, whose three connections all of their
// viewers share, by turns within a second. Triggers write what changes to the outbox, and
// relays announce it. Nobody gets a row of another, through two restarts of the PgBouncer.
func TestNobodySeesAnothersRowBehindPgBouncer(t *testing.T) {
	frames := int64(10_000)
	if *full {
		frames = 200_000
	}
	d := pgtest.Shared(t).NewDatabase(t, `
		create table notes (id int, owner text, rev bigint, primary key (id, owner));
		insert into notes select id, owner, 1 from generate_series(1, 3) id, unnest('{ann,bob}'::text[]) owner;
		alter table notes enable row level security;
		create policy own on notes using (owner = nullif(current_setting('app.viewer', true), ''))`, outbox.Schema)
	role := d.NewRole(t, "grant select on notes to %s; grant select, update, delete on entity_sync_outbox to %[1]s")
	bouncer := d.Server.StartBouncer(t, 3, role)
	url := bouncer.URL(d.URLAs(role), "exec")
	nsqd := nsqdtest.Start(t)
	entities := []shared.EntityType{"one", "many", "shared"}
	conn := d.Connect(t)
	for _, entity := range entities {
		if err := outbox.Track(t.Context(), conn, "notes", entity, "id"); err != nil {
			t.Fatal(err)
		}
	}
	var nodes []*node
	for range 2 {
		pool := pgtest.Pool(t, url, 12) // more than there are server connections
		n := &node{nodetest.Start(t, es.Config{NSQAddr: nsqd.Addr, Outbox: &outbox.Config{Pool: pool}})}
		quick := es.WithRetry(20*time.Millisecond, 200*time.Millisecond)
		n.register(t, "one", db.Rows(pool, "select * from notes where id = $1").AsViewer(claims), quick)
		n.register(t, "many", db.Batch(pool, "select * from notes where id = any($1)").AsViewer(claims), quick)
		n.register(t, "shared", db.Batch(pool, "select * from notes where id = any($1)").AsViewer(claims), quick, es.WithScope(func(secret string) string { return secret }))
		nodes = append(nodes, n)
	}
	testkit.Until(t, "the nodes are ready", func() bool { return nodes[0].Ready() && nodes[1].Ready() })

	w := watching{want: frames, keys: []shared.EntityKey{{Entity: "one", ID: "1"}, {Entity: "many", ID: "1"}, {Entity: "many", ID: "2"}, {Entity: "shared", ID: "3"}}}
	ctx, cancel := context.WithCancel(t.Context())
	var writing, reading sync.WaitGroup
	writing.Go(func() { // as users, through the PgBouncer, which may be away
		writer := pgtest.Pool(t, bouncer.URL(d.URL(), "exec"), 1)
		for i := 0; ctx.Err() == nil; i++ {
			_ = pgx.BeginFunc(context.Background(), writer, func(tx pgx.Tx) error {
				_, err := tx.Exec(context.Background(), "select set_config('app.viewer', $1, true)", []string{"ann", "bob"}[i%2])
				if err == nil {
					_, err = tx.Exec(context.Background(), "update notes set rev = rev + 1")
				}
				return err
			})
		}
	})
	for i := range 40 {
		reading.Go(func() {
			rnd := rand.New(rand.NewPCG(11, uint64(i)))
			for w.rows.Load() < w.want {
				if err := w.connection(rnd, nodes[rnd.IntN(2)].URL); err != nil {
					t.Error(err)
					w.rows.Add(w.want) // for all to end
					return
				}
			}
		})
	}
	for n := range int64(2) {
		testkit.Until(t, "a third of the rows is read", func() bool { return w.rows.Load() >= (n+1)*frames/3 })
		bouncer.Stop()
		if err := bouncer.Start(); err != nil {
			t.Fatal(err)
		}
	}
	reading.Wait()
	cancel()
	writing.Wait()
	testkit.Until(t, "all is announced", func() bool {
		var waiting int
		err := conn.QueryRow(context.Background(), "select count(*) from entity_sync_outbox").Scan(&waiting)
		return err == nil && waiting == 0
	})
	t.Logf("%d rows read over %d connections with %d changes of the secret, none of them another's; the relays have announced %d and %d keys",
		w.rows.Load(), w.connections.Load(), w.changes.Load(), nodes[0].OutboxRelay().Stats().Published, nodes[1].OutboxRelay().Stats().Published)
	if w.rows.Load() < frames || w.changes.Load() < 20 || w.connections.Load() < 20 {
		t.Error("that proves too little")
	}
}
