package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

// note is what the database holds. Each owner has a note under each id, and
// policies let nobody see another's.
type note struct {
	ID    int    `json:"id"`
	Owner string `json:"owner"`
	Rev   int64  `json:"rev"`
}

// marker is in every secret, and in no row and no log.
const marker = canary.Mark + " of "

func claims(_ context.Context, secret string) (map[string]string, error) {
	if len(secret) < len(marker) {
		return nil, shared.ErrForbidden
	}
	return map[string]string{"app.viewer": secret[len(marker):]}, nil
}

// Two viewers with different rows under one key, two nodes, single fetches and
// batches, through changes of the secret, new connections and lost ones: every
// row that a client reads is its viewer's, and none goes backwards.
func TestNobodySeesAnothersRow(t *testing.T) {
	frames := int64(30_000)
	if *full {
		frames = 1_000_000
	}
	d := pgtest.Shared(t).NewDatabase(t, `
		create table notes (id int, owner text, rev bigint, primary key (id, owner));
		insert into notes select id, owner, 1 from generate_series(1, 3) id, unnest('{ann,bob}'::text[]) owner;
		alter table notes enable row level security;
		create policy own on notes using (owner = nullif(current_setting('app.viewer', true), ''))`)
	url := d.URLAs(d.NewRole(t, "grant select on notes to %s"))
	nsqd := nsqdtest.Start(t)
	nodes := []*node{startNode(t, nsqd), startNode(t, nsqd)}
	for _, n := range nodes {
		pool := pgtest.Pool(t, url, 4) // few connections, that many viewers share
		n.register(t, "one", db.Rows(pool, "select * from notes where id = $1").AsViewer(claims))
		n.register(t, "many", db.Batch(pool, "select * from notes where id = any($1)").AsViewer(claims))
		n.register(t, "shared", db.Batch(pool, "select * from notes where id = any($1)").AsViewer(claims), es.WithScope(func(secret string) string { return secret }))
	}
	testkit.Until(t, "the nodes are ready", func() bool { return nodes[0].Ready() && nodes[1].Ready() })

	w := watching{want: frames, keys: []shared.EntityKey{{Entity: "one", ID: "1"}, {Entity: "many", ID: "1"}, {Entity: "many", ID: "2"}, {Entity: "shared", ID: "3"}}}
	ctx, cancel := context.WithCancel(t.Context())
	var writing, reading sync.WaitGroup
	writing.Go(func() {
		conn := d.Connect(t)
		for i := 0; ctx.Err() == nil; i++ {
			if _, err := conn.Exec(context.Background(), "update notes set rev = rev + 1"); err != nil {
				t.Error(err)
				return
			}
			if err := nodes[i%2].Notify(context.Background(), w.keys...); err != nil {
				t.Error(err)
				return
			}
		}
	})
	begun := time.Now()
	for i := range 40 {
		reading.Go(func() {
			rnd := rand.New(rand.NewPCG(7, uint64(i)))
			for w.rows.Load() < w.want {
				if err := w.connection(rnd, nodes[rnd.IntN(2)].URL); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	reading.Wait()
	cancel()
	writing.Wait()
	t.Logf("%d rows read in %v over %d connections with %d changes of the secret, none of them another's",
		w.rows.Load(), time.Since(begun).Round(time.Millisecond), w.connections.Load(), w.changes.Load())
	if w.rows.Load() < frames || w.changes.Load() < 20 || w.connections.Load() < 20 {
		t.Error("that proves too little")
	}
}

// watching is clients that read until they have read enough rows.
type watching struct {
	keys                       []shared.EntityKey
	want                       int64 // rows
	rows, changes, connections atomic.Int64
}

// connection is one client from its connection to its end, which it may not say.
func (w *watching) connection(rnd *rand.Rand, url string) error {
	c, err := dial(url)
	if err != nil {
		return err
	}
	defer c.ws.Close()
	w.connections.Add(1)
	who, next := "", "" // whose rows may come; both while the secret changes
	change := func() error {
		w.changes.Add(1)
		next = []string{"ann", "bob"}[rnd.IntN(2)]
		return c.send("secret", next, marker+next)
	}
	if err := change(); err != nil {
		return err
	}
	if err := c.send("subscribe", "", w.keys); err != nil {
		return err
	}
	last := make(map[shared.EntityKey]note)
	for n := 20 + rnd.IntN(2000); n > 0 && w.rows.Load() < w.want; n-- {
		f, err := c.read()
		if err != nil {
			return err
		}
		switch {
		case f.Action == "ack" && f.Ref != nil && string(f.Ref) != `""`:
			who, err = strconv.Unquote(string(f.Ref))
			if err != nil {
				return err
			}
			// There may be another on its way, if it was the same as before
		case f.Action == "update":
			var row note
			if len(f.Rows) != 1 {
				return fmt.Errorf("%d rows of %v for %s", len(f.Rows), f.Key, who)
			}
			if err := json.Unmarshal(f.Rows[0], &row); err != nil {
				return err
			}
			if row.Owner != who && row.Owner != next || fmt.Sprint(row.ID) != f.Key.ID {
				return fmt.Errorf("%+v of %v came to %s", row, f.Key, who)
			}
			if before := last[f.Key]; before.Owner == row.Owner && row.Rev < before.Rev {
				return fmt.Errorf("%+v of %v came to %s after revision %d", row, f.Key, who, before.Rev)
			}
			last[f.Key] = row
			w.rows.Add(1)
		default:
			n++ // no row
		}
		if who == next && rnd.IntN(20) == 0 {
			if err := change(); err != nil {
				return err
			}
		}
	}
	return nil
}
