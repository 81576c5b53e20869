package outbox_test

import (
	"context"
	"fmt"
	"slices"
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

// benchServer returns a server of the benchmark's own: with fsync a commit is on
// the disk before it returns, as it should be.
func benchServer(b *testing.B, fsync string) *pgtest.Server {
	b.Helper()
	server, err := pgtest.New("fsync="+fsync, "synchronous_commit=on", "shared_buffers=256MB")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { server.Close() })
	return server
}

// What announcing costs those who write: 16 writers, each transaction inserts a row
// and updates another. The ways take turns of 300 ms, while a relay announces what
// they write.
func BenchmarkCommit(b *testing.B) {
	for _, fsync := range []string{"off", "on"} {
		b.Run("fsync="+fsync, func(b *testing.B) {
			const writers, turn = 16, 300 * time.Millisecond
			d := outboxOn(b, benchServer(b, fsync))
			ways := []string{"plain", "notifytx", "track", "notifytx+wakeup"}
			for i := range ways {
				d.Exec(b, fmt.Sprintf("create table items%d (id bigint primary key, rev int default 0)", i))
				d.Exec(b, fmt.Sprintf("insert into items%d select -i from generate_series(1, 16) i", i))
			}
			track(b, d, "items2", "items", "id")
			pool := pgtest.Pool(b, d.URL(), writers)
			e := newEar("items")
			startRelay(b, outbox.Config{Pool: pgtest.Pool(b, d.URL(), 2)}, e)
			var ids atomic.Int64
			commits := make([]float64, len(ways))
			for b.Loop() {
				for way, name := range ways {
					if name == "notifytx+wakeup" {
						if err := outbox.EnableWakeUp(b.Context(), pool); err != nil {
							b.Fatal(err)
						}
					}
					insert, update := fmt.Sprintf("insert into items%d values ($1)", way), fmt.Sprintf("update items%d set rev = rev + 1 where id = $1", way)
					var done atomic.Int64
					var work sync.WaitGroup
					end := time.Now().Add(turn)
					for w := range writers {
						work.Go(func() {
							for time.Now().Before(end) {
								id := ids.Add(1)
								err := pgx.BeginFunc(b.Context(), pool, func(tx pgx.Tx) error {
									if _, err := tx.Exec(b.Context(), insert, id); err != nil {
										return err
									}
									if _, err := tx.Exec(b.Context(), update, -w-1); err != nil {
										return err
									}
									if name == "plain" || name == "track" {
										return nil
									}
									return outbox.NotifyTx(b.Context(), tx, itemKeys(fmt.Sprint(id), fmt.Sprint(-w-1))...)
								})
								if err != nil {
									b.Error(err)
									return
								}
								done.Add(1)
							}
						})
					}
					work.Wait()
					commits[way] += float64(done.Load())
					if err := outbox.DisableWakeUp(b.Context(), pool); err != nil {
						b.Fatal(err)
					}
				}
			}
			for i, name := range ways {
				b.ReportMetric(commits[i]/(float64(b.N)*turn.Seconds()), name+"/s")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// How late a key is announced after its commit has returned, at 200 commits a second
// from 4 writers.
func BenchmarkLag(b *testing.B) {
	for name, o := range map[string]outbox.Config{"interval=100ms": {}, "wake": {}, "listen": {Listen: true}} {
		b.Run(name, func(b *testing.B) {
			d := outboxOn(b, benchServer(b, "on"))
			if o.Listen {
				if err := outbox.EnableWakeUp(b.Context(), d.Connect(b)); err != nil {
					b.Fatal(err)
				}
			}
			e := &clockEar{ear: newEar("items"), at: make(map[shared.EntityKey]time.Time)}
			o.Pool = pgtest.Pool(b, d.URL(), 2)
			r := startRelay(b, o, e)
			pool := pgtest.Pool(b, d.URL(), 4)
			begin, next := time.Now(), atomic.Int64{}
			committed := make([]time.Time, b.N)
			var writers sync.WaitGroup
			for range 4 {
				writers.Go(func() {
					for n := next.Add(1) - 1; n < int64(b.N); n = next.Add(1) - 1 {
						time.Sleep(time.Until(begin.Add(time.Duration(n) * 5 * time.Millisecond)))
						write(b, pool, itemKey(fmt.Sprint(n)))
						committed[n] = time.Now()
						if name == "wake" {
							r.Wake()
						}
					}
				})
			}
			writers.Wait()
			testkit.Until(b, "all are announced", func() bool { return r.Stats().Published == uint64(b.N) })
			lags := make([]time.Duration, b.N)
			for n := range lags {
				lags[n] = max(0, e.at[itemKey(fmt.Sprint(n))].Sub(committed[n]))
			}
			slices.Sort(lags)
			for _, p := range []int{50, 99} {
				b.ReportMetric(float64(lags[(len(lags)-1)*p/100].Microseconds())/1000, fmt.Sprintf("ms-p%d", p))
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// clockEar notes when each key was announced first.
type clockEar struct {
	*ear
	at map[shared.EntityKey]time.Time
}

func (e *clockEar) Notify(_ context.Context, keys ...shared.EntityKey) error {
	now := time.Now()
	for _, key := range keys {
		if _, ok := e.at[key]; !ok {
			e.at[key] = now
		}
	}
	return nil
}

// How long it takes to announce what waits, and to find nothing, where dead rows lie
// about which an old transaction keeps from being cleaned up.
func BenchmarkBacklog(b *testing.B) {
	d := outboxOn(b, benchServer(b, "off"))
	const rows = 100_000
	e := newEar("items")
	pool := pgtest.Pool(b, d.URL(), 2)
	for b.Loop() {
		d.Exec(b, fmt.Sprintf("insert into entity_sync_outbox (entity, id) select 'items', i from generate_series(1, %d) i", rows))
		r, err := outbox.Start(outbox.Config{Pool: pool}, e)
		if err != nil {
			b.Fatal(err)
		}
		testkit.Until(b, "all are announced", func() bool { return r.Stats().Published == rows })
		closeRelay(b, r)
	}
	b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
