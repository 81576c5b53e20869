package outbox_test

import (
	"database/sql"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/internal/testkit"
)

// After a failover a pool may still have connections to what has become a standby. What
// fails there for that reason is done over a new connection the next time.
func TestTheOutboxLeavesAServerThatIsReadOnly(t *testing.T) {
	t.Parallel()
	var servers [2]*pgtest.Server
	var databases [2]*pgtest.Database
	for i := range servers {
		s, err := pgtest.New()
		if err != nil {
			t.Fatal(err)
		}
		s.CloseAtEnd(t)
		servers[i], databases[i] = s, s.NewDatabase(t, "create table items (id int primary key);", outbox.Schema)
	}
	if err := servers[0].MakeStandby(); err != nil {
		t.Fatal(err)
	}
	var addr atomic.Value
	addr.Store(servers[0].Addr())
	one := func() *pgxpool.Pool { return pgtest.MovingPool(t, databases[0].URL(), 1, &addr) }
	notify, track, relayed := one(), one(), one()
	pool := stdlib.OpenDB(*one().Config().ConnConfig)
	pool.SetMaxOpenConns(1)
	t.Cleanup(func() { pool.Close() })
	calls := map[string]func() error{
		"NotifyTx": func() error {
			return pgx.BeginFunc(t.Context(), notify, func(tx pgx.Tx) error { return outbox.NotifyTx(t.Context(), tx, itemKey("1")) })
		},
		"NotifySQLTx": func() error {
			tx, err := pool.BeginTx(t.Context(), nil)
			if err == nil {
				defer func() { _ = tx.Rollback() }()
				err = outbox.NotifySQLTx(t.Context(), tx, itemKey("2"))
			}
			if err == nil {
				err = tx.Commit()
			}
			return err
		},
		"Track": func() error { return outbox.Track(t.Context(), track, "items", "items", "id") },
	}
	for what, call := range calls {
		if err := call(); err == nil {
			t.Errorf("%s works on a standby", what)
		}
	}
	e := newEar("items")
	relay := startRelay(t, outbox.Config{Pool: relayed}, e)
	testkit.Until(t, "the relay has failed", func() bool { return relay.Stats().Failed > 0 })

	addr.Store(servers[1].Addr())
	for what, call := range calls {
		if err := call(); err != nil {
			t.Errorf("%s after the failover: %v", what, err)
		}
	}
	testkit.Until(t, "the key is announced", func() bool { return e.times(itemKey("1")) > 0 })
}

// A transaction that is read only by itself says nothing of the server: its connection is
// kept.
func TestAConnectionIsKeptWhereOnlyTheTransactionIsReadOnly(t *testing.T) {
	t.Parallel()
	d := newOutbox(t, "create table items (id int primary key)")
	pool := pgtest.Pool(t, d.URL(), 1)
	backend := func() (pid int) {
		if err := pool.QueryRow(t.Context(), "select pg_backend_pid()").Scan(&pid); err != nil {
			t.Fatal(err)
		}
		return pid
	}
	before := backend()
	sqlPool := stdlib.OpenDBFromPool(pool)
	t.Cleanup(func() { sqlPool.Close() })
	tx, err := sqlPool.BeginTx(t.Context(), &sql.TxOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := outbox.NotifySQLTx(t.Context(), tx, itemKey("1")); err == nil {
		t.Error("a read-only transaction writes to the outbox")
	}
	if _, err := tx.ExecContext(t.Context(), "insert into items values (1)"); err == nil {
		t.Error("a transaction that has failed goes on")
	}
	if err := tx.Rollback(); err != nil {
		t.Error(err)
	}
	var rows int
	if err := sqlPool.QueryRowContext(t.Context(), "select count(*) from items").Scan(&rows); err != nil || rows != 0 {
		t.Errorf("%d rows of a transaction that was rolled back, %v", rows, err)
	}
	if backend() != before {
		t.Error("the connection of database/sql was closed")
	}
}

// A standby is promoted, and the primary comes back as a standby, to which every
// connection of the pool is made before the pool's URL leads to the new primary. The relay
// then fails once at most, and leaves none of them.
func TestFailover(t *testing.T) {
	t.Parallel()
	primary, err := pgtest.New()
	if err != nil {
		t.Fatal(err)
	}
	primary.CloseAtEnd(t)
	d := primary.NewDatabase(t, "create table items (id int primary key)", outbox.Schema, "select entity_sync_track('items', 'items', 'id')")
	standby, err := primary.NewStandby()
	if err != nil {
		t.Fatal(err)
	}
	standby.CloseAtEnd(t)
	var addr atomic.Value
	addr.Store(primary.Addr())
	const n = 6
	pool := pgtest.MovingPool(t, d.URL(), n, &addr)
	e := newEar("items")
	relay := startRelay(t, outbox.Config{Pool: pool}, e)
	d.Exec(t, "insert into items values (1)")
	testkit.Until(t, "a change on the primary is announced", func() bool { return e.times(itemKey("1")) > 0 })

	promoted := &pgtest.Database{Server: standby, Name: d.Name}
	testkit.Until(t, "the standby has it", func() bool {
		var there bool
		err := promoted.Connect(t).QueryRow(t.Context(), "select exists (select from items)").Scan(&there)
		return err == nil && there
	})
	primary.Stop()
	promoted.Exec(t, "select pg_promote()")
	promoted.Exec(t, "insert into items values (2)")
	if err := primary.MakeStandby(); err != nil {
		t.Fatal(err)
	}
	failed := relay.Stats().Failed
	testkit.Until(t, "the relay meets what is a standby now", func() bool { return relay.Stats().Failed > failed+1 })
	eachConn(t, pool, n, func(c *pgxpool.Conn) {
		if !inRecovery(t, c) {
			t.Error("a connection leads to the new primary before the URL does")
		}
		addr.Store(standby.Addr()) // for whatever connects anew
	})
	failed = relay.Stats().Failed
	testkit.Until(t, "what was written on the new primary is announced", func() bool { return e.times(itemKey("2")) > 0 })
	if now := relay.Stats().Failed; now > failed+1 {
		t.Errorf("%d rounds failed before", now-failed)
	}
	eachConn(t, pool, n, func(c *pgxpool.Conn) {
		if inRecovery(t, c) {
			t.Error("a connection still leads to the standby")
		}
	})
}

// eachConn has all connections of a pool at once, and calls f when it has.
func eachConn(t *testing.T, pool *pgxpool.Pool, n int, f func(*pgxpool.Conn)) {
	t.Helper()
	var conns []*pgxpool.Conn
	for range n {
		c, err := pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Release()
		conns = append(conns, c)
	}
	for _, c := range conns {
		f(c)
	}
}

func inRecovery(t *testing.T, c *pgxpool.Conn) (yes bool) {
	t.Helper()
	if err := c.QueryRow(t.Context(), "select pg_is_in_recovery()").Scan(&yes); err != nil {
		t.Error(err)
	}
	return yes
}
