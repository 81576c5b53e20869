package db_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/internal/pgtest"
)

// newMoving returns pools of one connection whose URL leads to where the address says,
// as a name or a balancer does that a failover changes.
func newMoving(t *testing.T, url string, addr *atomic.Value) *pgxpool.Pool {
	t.Helper()
	c, err := db.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	c.MaxConns = 1
	c.ConnConfig.DialFunc = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr.Load().(string))
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// After a failover a pool may still have connections to what has become a standby. What
// fails there for that reason is done over a new connection the next time.
func TestAConnectionToAServerThatIsReadOnlyIsLeft(t *testing.T) {
	const schema = "create sequence numbers; create table items (id int primary key);"
	var servers [2]*pgtest.Server
	var databases [2]*pgtest.Database
	for i := range servers {
		s, err := pgtest.New()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		servers[i], databases[i] = s, s.NewDatabase(t, schema, db.OutboxSchema)
	}
	if err := servers[0].MakeStandby(); err != nil {
		t.Fatal(err)
	}
	var addr atomic.Value
	addr.Store(servers[0].Addr())
	url := databases[0].URL()

	notify, track, read, apart, relayed := newMoving(t, url, &addr), newMoving(t, url, &addr), newMoving(t, url, &addr), newMoving(t, url, &addr), newMoving(t, url, &addr)
	one := db.Rows(read, "select $1::int as id, nextval('numbers')")
	two := db.Rows(apart, "select $1::int as id", "select $1::int as id, pg_is_in_recovery()")
	calls := map[string]func() error{
		"NotifyTx": func() error {
			return pgx.BeginFunc(t.Context(), notify, func(tx pgx.Tx) error { return db.NotifyTx(t.Context(), tx, itemKey("1")) })
		},
		"Track": func() error { return db.Track(t.Context(), track, "items", "items", "id") },
		"a fetch": func() error {
			_, err := one.Fetch(t.Context(), idOf("1"), "")
			return err
		},
	}
	for what, call := range calls {
		if err := call(); err == nil {
			t.Errorf("%s works on a standby", what)
		}
	}
	if rows, err := two.Fetch(t.Context(), idOf("1"), ""); err != nil || len(rows) != 2 {
		t.Errorf("what reads alone fails on a standby: %v", err)
	}
	e := newEar("items")
	relay := startRelay(t, db.Outbox{Pool: relayed}, e)
	until(t, "the relay has failed", func() bool { return relay.Stats().Failed > 0 })

	addr.Store(servers[1].Addr())
	for what, call := range calls {
		if err := call(); err != nil {
			t.Errorf("%s after the failover: %v", what, err)
		}
	}
	until(t, "the key is announced", func() bool { return e.times(itemKey("1")) > 0 })
}

// A transaction that is read only by itself says nothing of the server: its connection is
// kept.
func TestAConnectionIsKeptWhereOnlyTheTransactionIsReadOnly(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t, "create sequence numbers; create table items (id int primary key)")
	pool := pgtest.Pool(t, d.URL(), 1)
	q := db.Rows(pool, "select $1::int as id", "select $1::int as id, nextval('numbers')")
	var before, after uint32
	conn := func() (pid uint32) {
		if err := pool.AcquireFunc(t.Context(), func(c *pgxpool.Conn) error {
			pid = c.Conn().PgConn().PID()
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return pid
	}
	before = conn()
	if _, err := q.Fetch(t.Context(), idOf("1"), ""); err == nil {
		t.Error("a sequence moves in a read-only transaction")
	}
	if after = conn(); after != before {
		t.Error("the connection was closed")
	}
}
