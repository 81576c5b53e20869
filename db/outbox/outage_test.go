package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
)

// The server is stopped without a word and started again, and every connection is
// ended by hand, under load: what is committed is announced.
func TestTheDatabaseGoesAwayAndComesBack(t *testing.T) {
	t.Parallel()
	server, err := pgtest.New()
	if err != nil {
		t.Fatal(err)
	}
	server.CloseAtEnd(t)
	d := outboxOn(t, server, "create table items (id text primary key)")
	if err := errors.Join(outbox.Track(t.Context(), d.Connect(t), "items", "tracked", "id"), outbox.EnableWakeUp(t.Context(), d.Connect(t))); err != nil {
		t.Fatal(err)
	}
	e := newEar("items", "tracked")
	var relays []*outbox.Relay
	var logs [2]testkit.Buffer
	for i := range logs {
		relays = append(relays, startRelay(t, outbox.Config{Pool: newPool(t, d.URL()), Listen: i == 0, Logger: slog.New(slog.NewTextHandler(&logs[i], nil))}, e))
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
					return outbox.NotifyTx(attempt, tx, itemKey(id))
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
		testkit.Until(t, "more is committed", func() bool { return done.Load() > before+50 })
	}
	for range 3 {
		more()
		server.Stop()
		before := failed.Load()
		testkit.Until(t, "writers noticed", func() bool { return failed.Load() > before+4 })
		testkit.Until(t, "a relay noticed", func() bool { return relays[0].Stats().Failing > 0 })
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
	testkit.Until(t, "nothing is left", func() bool { return len(waiting(t, d)) == 0 })
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
		testkit.Until(t, fmt.Sprintf("relay %d has said that it failed and that it works again", i), func() bool {
			return logs[i].Count("relaying the outbox failed") > 0 && logs[i].Count("relayed again") > 0
		})
	}
}
