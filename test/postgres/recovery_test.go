package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

// system is two nodes that fetch two tables, one by one and in batches, and
// clients that watch everything.
type system struct {
	server *pgtest.Server
	data   *pgtest.Database
	nodes  []*node
	writer *pgxpool.Pool

	mu   sync.Mutex
	seen []map[shared.EntityKey]row // of each client
}

type row struct {
	ID      int       `json:"id"`
	Rev     int64     `json:"rev"`
	Written time.Time `json:"written"`
}

const (
	rowsPerTable = 20
	watchers     = 10
)

var tables = []shared.EntityType{"items", "people"}

// newSystem's nodes have pools of n connections.
func newSystem(t *testing.T, n int32) *system {
	t.Helper()
	server, err := pgtest.New()
	if err != nil {
		t.Fatal(err)
	}
	server.CloseAtEnd(t)
	s := &system{server: server, data: server.NewDatabase(t)}
	for _, table := range tables {
		s.data.Exec(t, fmt.Sprintf("create table %s (id int primary key, rev bigint, written timestamptz); insert into %[1]s select id, 1, now() from generate_series(1, %d) id", table, rowsPerTable))
	}
	s.writer = pgtest.Pool(t, s.data.URL(), 4)
	nsqd := nsqdtest.Start(t)
	for range 2 {
		n, pool := startNode(t, nsqd), pgtest.Pool(t, s.data.URL(), n)
		quick := es.WithRetry(50*time.Millisecond, time.Second)
		n.register(t, "items", db.Rows(pool, "select * from items where id = $1"), quick, es.WithTimeout(2*time.Second))
		n.register(t, "people", db.Batch(pool, "select * from people where id = any($1)"), quick)
		s.nodes = append(s.nodes, n)
	}
	testkit.Until(t, "the nodes are ready", func() bool { return s.nodes[0].Ready() && s.nodes[1].Ready() })
	return s
}

// watch starts the clients; they end with the test.
func (s *system) watch(t *testing.T, changed func(shared.EntityType, row)) {
	t.Helper()
	var keys []shared.EntityKey
	for _, table := range tables {
		for id := range rowsPerTable {
			keys = append(keys, shared.EntityKey{Entity: table, ID: fmt.Sprint(id + 1)})
		}
	}
	var reading sync.WaitGroup
	t.Cleanup(reading.Wait)
	for i := range watchers {
		c, err := dial(s.nodes[i%2].URL)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.ws.Close() })
		if err := c.send("subscribe", "", keys); err != nil {
			t.Fatal(err)
		}
		seen := make(map[shared.EntityKey]row)
		s.seen = append(s.seen, seen)
		reading.Go(func() {
			for {
				f, err := c.read()
				if err != nil {
					return // the test has ended, or will see that rows are missing
				}
				if f.Action != "update" {
					continue
				}
				var r row
				if err := json.Unmarshal(f.Rows[0], &r); err != nil {
					t.Error(err)
					return
				}
				s.mu.Lock()
				if before := seen[f.Key]; before.Rev > r.Rev {
					t.Errorf("%v went back from %d to %d", f.Key, before.Rev, r.Rev)
				}
				seen[f.Key] = r
				s.mu.Unlock()
				changed(f.Key.Entity, r)
			}
		})
	}
	testkit.Until(t, "everybody has seen everything", func() bool { return s.right(t, nil) })
}

// right reports whether every client has seen every row as it is in the database;
// what one has not is put to missing.
func (s *system) right(t *testing.T, missing *string) bool {
	now := make(map[shared.EntityKey]int64)
	for _, table := range tables {
		rows, err := s.writer.Query(t.Context(), fmt.Sprintf("select id::text, rev from %s", table))
		if err != nil {
			return false
		}
		defer rows.Close()
		for rows.Next() {
			k, rev := shared.EntityKey{Entity: table}, int64(0)
			if err := rows.Scan(&k.ID, &rev); err != nil {
				return false
			}
			now[k] = rev
		}
		if rows.Err() != nil {
			return false
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, seen := range s.seen {
		for k, rev := range now {
			if seen[k].Rev != rev {
				if missing != nil {
					*missing = fmt.Sprintf("client %d has revision %d of %v, the database has %d", i, seen[k].Rev, k, rev)
				}
				return false
			}
		}
	}
	return true
}

// write changes rows and announces them, until ctx ends. What the database does
// not take is not announced; what it may have taken is.
func (s *system) write(ctx context.Context, t *testing.T, tables ...shared.EntityType) (writes, failed int) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for ctx.Err() == nil {
		table := tables[rnd.IntN(len(tables))]
		k := shared.EntityKey{Entity: table, ID: fmt.Sprint(1 + rnd.IntN(rowsPerTable))}
		within, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err := s.writer.Exec(within, fmt.Sprintf("update %s set rev = rev + 1, written = clock_timestamp() where id = $1", table), k.ID)
		cancel()
		writes++
		if err != nil {
			failed++
		}
		if err := s.nodes[rnd.IntN(2)].Notify(context.Background(), k); err != nil {
			t.Errorf("Notify: %v", err)
		}
		time.Sleep(2 * time.Millisecond)
	}
	return writes, failed
}

// The server is stopped without a word and started again, and every connection is
// ended, while rows change: everybody ends up with what is in the database.
func TestTheDatabaseGoesAndComesBack(t *testing.T) {
	s := newSystem(t, 4)
	s.watch(t, func(shared.EntityType, row) {})
	ctx, cancel := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	writing.Go(func() {
		writes, failed := s.write(ctx, t, tables...)
		t.Logf("%d writes, %d of which the database did not confirm", writes, failed)
		if failed == 0 {
			t.Error("the database was never away")
		}
	})
	for range 3 {
		time.Sleep(300 * time.Millisecond)
		s.server.Stop()
		time.Sleep(time.Second)
		if err := s.server.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(300 * time.Millisecond)
		s.data.Exec(t, "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend'")
	}
	time.Sleep(300 * time.Millisecond)
	cancel()
	writing.Wait()
	begun := time.Now()
	missing := ""
	for end := begun.Add(patience); !s.right(t, &missing); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(missing)
		}
	}
	t.Logf("everybody had everything %v after the last write", time.Since(begun).Round(time.Millisecond))
}

// A table is locked for longer than its fetches may take. The other entity type
// of the same small pool does not notice.
func TestATableIsLocked(t *testing.T) {
	span := 3 * time.Second
	if *full {
		span = 20 * time.Second
	}
	s := newSystem(t, 4)
	var mu sync.Mutex
	var lags []time.Duration // of people
	s.watch(t, func(entity shared.EntityType, r row) {
		if entity == "people" {
			mu.Lock()
			defer mu.Unlock()
			lags = append(lags, time.Since(r.Written))
		}
	})
	measure := func(tables ...shared.EntityType) (p99 time.Duration) {
		mu.Lock()
		lags = nil
		mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), span)
		defer cancel()
		s.write(ctx, t, tables...)
		mu.Lock()
		defer mu.Unlock()
		if len(lags) < 100 {
			t.Fatalf("only %d rows came within %v", len(lags), span)
		}
		slices.Sort(lags)
		return lags[len(lags)*99/100]
	}
	before := measure("people")
	locker := s.data.Connect(t)
	if _, err := locker.Exec(t.Context(), "begin; lock items in access exclusive mode"); err != nil {
		t.Fatal(err)
	}
	var keys []shared.EntityKey
	for id := range rowsPerTable {
		keys = append(keys, shared.EntityKey{Entity: "items", ID: fmt.Sprint(id + 1)})
	}
	if err := s.nodes[0].Notify(t.Context(), keys...); err != nil {
		t.Fatal(err)
	}
	testkit.Until(t, "fetches hang on both nodes", func() bool {
		return s.nodes[0].Bridge.Stats().Entities["items"].FetchesRunning > 0 && s.nodes[1].Bridge.Stats().Entities["items"].FetchesRunning > 0
	})
	during := measure("people")
	if _, err := locker.Exec(t.Context(), "update items set rev = rev + 1; commit"); err != nil {
		t.Fatal(err)
	}
	t.Logf("people's p99 is %v while items are locked, and %v before", during, before)
	if during > 2*before+500*time.Millisecond { // a fetch that hangs does so for two seconds
		t.Error("that is more than twice as long")
	}
	missing := ""
	for end := time.Now().Add(patience); !s.right(t, &missing); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(missing)
		}
	}
}
