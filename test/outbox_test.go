package test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/nodetest"
	"github.com/entity-sync/entity-sync/internal/testkit/process"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

// outboxItems are the rows that are written; of the ghost every write is rolled
// back.
const (
	outboxItems = 10
	ghost       = "ghost"
)

// newItems makes a database with items and an outbox.
func newItems(t testing.TB) *pgtest.Database {
	t.Helper()
	d := pgtest.Shared(t).NewDatabase(t, "create table items (id text primary key, rev int not null default 0)",
		fmt.Sprintf("insert into items (id) select i from generate_series(0, %d) i", outboxItems-1), "insert into items (id) values ('ghost')")
	if err := outbox.EnsureSchema(t.Context(), d.Connect(t)); err != nil {
		t.Fatal(err)
	}
	return d
}

// newOutboxNode returns a node of the items that announces from the outbox.
func newOutboxNode(ctx context.Context, url, nsqd string, out io.Writer) (*es.EntitySync, *pgxpool.Pool, error) {
	pool, err := db.Open(ctx, url)
	if err != nil {
		return nil, nil, err
	}
	s, err := es.New(es.Config{NSQAddr: nsqd, Outbox: &outbox.Config{Pool: pool}, Logger: canary.Logger(out)})
	if err != nil {
		return nil, nil, err
	}
	return s, pool, es.Register(s, items, func(ctx context.Context, key shared.EntityKey, secret string) (row, error) {
		r := row{ID: key.ID, For: secret}
		err := pool.QueryRow(ctx, "select rev from items where id = $1", key.ID).Scan(&r.Rev)
		if errors.Is(err, pgx.ErrNoRows) {
			err = shared.ErrNotFound
		}
		return r, err
	})
}

func startOutboxNode(t testing.TB, url, nsqd string) *node {
	t.Helper()
	s, pool, err := newOutboxNode(context.Background(), url, nsqd, canary.Output(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return &node{nodetest.Serve(t, s)}
}

// newest is what a client has last got of each item.
type newest struct {
	mu     sync.Mutex
	rev    map[string]int
	ghosts int // rows of the ghost that came after the first
	back   int // rows older than one before
	err    error
	ended  chan struct{}
}

// follow reads what a client gets until its connection ends.
func follow(c *conn) *newest {
	c.SetReadDeadline(time.Time{}) // there may be nothing to read for long
	n := &newest{rev: make(map[string]int), ended: make(chan struct{})}
	go func() { // ends with the connection, which the test closes; stop waits for it
		defer close(n.ended)
		for {
			var r row
			_, b, err := c.ReadMessage()
			if err == nil {
				err = json.Unmarshal(b, &r)
			}
			n.mu.Lock()
			if err != nil {
				n.err = err
				n.mu.Unlock()
				return
			}
			if r.ID == ghost {
				n.ghosts++
			}
			if r.Rev < n.rev[r.ID] {
				n.back++
			}
			n.rev[r.ID] = r.Rev
			n.mu.Unlock()
		}
	}()
	return n
}

func (n *newest) has(want map[string]int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, rev := range want {
		if n.rev[id] != rev {
			return false
		}
	}
	return true
}

// revisions reads what all clients are to end up with.
func revisions(t testing.TB, pool *pgxpool.Pool) map[string]int {
	t.Helper()
	rows, err := pool.Query(t.Context(), "select id, rev from items where id <> $1", ghost)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]int)
	var id string
	var rev int
	if _, err := pgx.ForEachRow(rows, []any{&id, &rev}, func() error { all[id] = rev; return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

// A program that writes, commits and announces is killed again and again, at any
// point, most often between a commit and its announcement. Clients of the nodes
// that live on get all that it has committed, and hear nothing of what it has not.
func TestAWriterIsKilledBetweenCommitAndAnnouncement(t *testing.T) {
	t.Parallel()
	nsqd := nsqdtest.Start(t)
	d := newItems(t)
	nodes := []*node{startOutboxNode(t, d.URL(), nsqd.Addr), startOutboxNode(t, d.URL(), nsqd.Addr)}
	untilReady(t, nodes...)
	var clients []*newest
	for i, n := range nodes {
		for range 2 {
			c := n.dial(t, fmt.Sprint("user", i))
			c.watch(ghost)
			for id := range outboxItems {
				c.watch(fmt.Sprint(id))
			}
			f := follow(c)
			clients = append(clients, f)
			t.Cleanup(func() { c.Close(); <-f.ended })
		}
	}
	pool, err := db.Open(t.Context(), d.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()

	kills := sized(40, 200)
	telling := kills / 10 // so many of them must come in between
	random := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	done, left, worst := 0, 0, time.Duration(0)
	for ; done < kills || left < telling && done < 5*kills; done++ {
		w := startWriter(t, d.URL(), nsqd.Addr)
		time.Sleep(time.Duration(random.IntN(60_000)) * time.Microsecond) // the fault comes at any time
		w.kill(t)
		var waits int
		if err := pool.QueryRow(t.Context(), "select count(*) from entity_sync_outbox").Scan(&waits); err != nil {
			t.Fatal(err)
		}
		if waits > 0 {
			left++
		}
		begin := time.Now()
		// What the killed one has sent to the database may be committed still.
		testkit.Until(t, "the database knows that it is gone", func() bool {
			var n int
			err := pool.QueryRow(t.Context(), "select count(*) from pg_stat_activity where application_name = $1", w.name).Scan(&n)
			return err == nil && n == 0
		})
		want := revisions(t, pool)
		for i, c := range clients {
			testkit.Until(t, fmt.Sprintf("client %d has all that is committed", i), func() bool { return c.has(want) })
		}
		worst = max(worst, time.Since(begin))
	}
	for i, c := range clients {
		c.mu.Lock()
		if c.err != nil || c.back > 0 || c.ghosts > 0 {
			t.Errorf("client %d: %v; %d rows went backwards, %d came of writes that were rolled back", i, c.err, c.back, c.ghosts)
		}
		c.mu.Unlock()
	}
	testkit.Until(t, "nothing is left", func() bool {
		var n int
		return pool.QueryRow(t.Context(), "select count(*) from entity_sync_outbox").Scan(&n) == nil && n == 0
	})
	commits := 0
	for _, rev := range revisions(t, pool) {
		commits += rev
	}
	t.Logf("%d kills, after %d of which something committed was left to announce; %d commits; all clients had all after %v at the latest", done, left, commits, worst)
	if left < telling {
		t.Errorf("only %d of %d kills came between a commit and its announcement: that tests little", left, done)
	}
}

// Writers of all kinds, three nodes that announce, and clients of each: all end up
// with what was committed last.
func TestManyWritersOverTheOutboxEndRight(t *testing.T) {
	t.Parallel()
	nsqd := nsqdtest.Start(t)
	d := newItems(t)
	if err := outbox.Track(t.Context(), d.Connect(t), "items", items, "id"); err != nil {
		t.Fatal(err)
	}
	var nodes []*node
	var clients []*newest
	for range 3 {
		nodes = append(nodes, startOutboxNode(t, d.URL(), nsqd.Addr))
	}
	untilReady(t, nodes...)
	for i, n := range nodes {
		c := n.dial(t, fmt.Sprint("user", i))
		for id := range outboxItems {
			c.watch(fmt.Sprint(id))
		}
		f := follow(c)
		clients = append(clients, f)
		t.Cleanup(func() { c.Close(); <-f.ended })
	}
	config, err := db.ParseConfig(d.URL())
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = 32
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	var writers sync.WaitGroup
	for w := range 32 {
		writers.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 1))
			for i := range 20 {
				id := fmt.Sprint(random.IntN(outboxItems))
				if w == 0 { // a program that knows nothing of an outbox
					if _, err := pool.Exec(t.Context(), "update items set rev = rev + 1 where id = $1", id); err != nil {
						t.Error(err)
					}
					continue
				}
				err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
					if _, err := tx.Exec(t.Context(), "update items set rev = rev + 1 where id = $1", id); err != nil {
						return err
					}
					if random.IntN(10) == 0 { // others wait for the row meanwhile
						time.Sleep(time.Duration(random.IntN(50)) * time.Millisecond)
					}
					if err := outbox.NotifyTx(t.Context(), tx, item(id)); err != nil || i%4 > 0 {
						return err
					}
					return errChangedMyMind
				})
				if err != nil && !errors.Is(err, errChangedMyMind) {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	want := revisions(t, pool)
	commits := 0
	for _, rev := range want {
		commits += rev
	}
	if commits != 20+31*15 {
		t.Errorf("%d commits", commits)
	}
	for i, c := range clients {
		testkit.Until(t, fmt.Sprintf("client %d has all", i), func() bool { return c.has(want) })
		c.mu.Lock()
		if c.back > 0 {
			t.Errorf("client %d: %d rows went backwards", i, c.back)
		}
		c.mu.Unlock()
	}
}

// writerRole is that of a process which writes. It is told of a database and an nsqd.
const writerRole = "writer"

// writer is such a process, as the test sees it.
type writer struct {
	*process.Process
	name string // of its connections
}

// startWriter starts one and waits until it has written.
func startWriter(t testing.TB, url, nsqd string) *writer {
	t.Helper()
	name := fmt.Sprintf("writer-%d", time.Now().UnixNano())
	p, err := process.Start(writerRole, [2]string{url + "&application_name=" + name, nsqd}, process.Options{Output: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	return &writer{p, name}
}

// kill ends it at once, as kill -9 does.
func (w *writer) kill(t testing.TB) {
	t.Helper()
	_ = w.End(t, syscall.SIGKILL) // which is how it ends
}

func beWriter(c [2]string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	node, pool, err := newOutboxNode(ctx, c[0], c[1], os.Stderr)
	if err != nil {
		return err
	}
	go func() { // until the process ends
		<-process.Terminated()
		os.Exit(0)
	}()
	ended := make(chan error)
	for w := range 3 {
		go func() {
			for i := 0; ; i++ {
				if err := writeOnce(ctx, pool, w, i); err != nil {
					ended <- err
					return
				}
				if w == 0 && i == 0 {
					fmt.Println("writing")
				}
				if i%2 == 0 {
					node.OutboxRelay().Wake()
				}
				time.Sleep(rand.N(10 * time.Millisecond))
			}
		}()
	}
	return <-ended
}

var errChangedMyMind = errors.New("changed my mind")

// writeOnce writes an item, or the ghost, and takes that back.
func writeOnce(ctx context.Context, pool *pgxpool.Pool, w, i int) error {
	id := fmt.Sprint((3*i + w) % outboxItems)
	if i%5 == 4 {
		id = ghost
	}
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "update items set rev = rev + 1 where id = $1", id); err != nil {
			return err
		}
		if err := outbox.NotifyTx(ctx, tx, item(id)); err != nil {
			return err
		}
		if id == ghost {
			return errChangedMyMind
		}
		return nil
	})
	if errors.Is(err, errChangedMyMind) {
		return nil
	}
	return err
}
