package db_test

import (
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/internal/pgtest"
)

// After a failover a pool may still have connections to what has become a standby. What
// fails there for that reason is fetched over a new connection the next time.
func TestAConnectionToAServerThatIsReadOnlyIsLeft(t *testing.T) {
	var servers [2]*pgtest.Server
	var databases [2]*pgtest.Database
	for i := range servers {
		s, err := pgtest.New()
		if err != nil {
			t.Fatal(err)
		}
		s.CloseAtEnd(t)
		servers[i], databases[i] = s, s.NewDatabase(t, "create sequence numbers")
	}
	if err := servers[0].MakeStandby(); err != nil {
		t.Fatal(err)
	}
	var addr atomic.Value
	addr.Store(servers[0].Addr())
	one := func() *pgxpool.Pool { return pgtest.MovingPool(t, databases[0].URL(), 1, &addr) }
	writes := db.Rows(one(), "select $1::int as id, nextval('numbers')")
	reads := db.Rows(one(), "select $1::int as id", "select $1::int as id, pg_is_in_recovery()")
	if _, err := writes.Fetch(t.Context(), idOf("1"), ""); err == nil {
		t.Error("a sequence moves on a standby")
	}
	if rows, err := reads.Fetch(t.Context(), idOf("1"), ""); err != nil || len(rows) != 2 {
		t.Errorf("what reads alone fails on a standby: %v", err)
	}
	addr.Store(servers[1].Addr())
	if _, err := writes.Fetch(t.Context(), idOf("1"), ""); err != nil {
		t.Errorf("after the failover: %v", err)
	}
}

// A transaction that is read only by itself says nothing of the server: its connection is
// kept.
func TestAConnectionIsKeptWhereOnlyTheTransactionIsReadOnly(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t, "create sequence numbers")
	pool := pgtest.Pool(t, d.URL(), 1)
	q := db.Rows(pool, "select $1::int as id", "select $1::int as id, nextval('numbers')")
	before := backend(t, pool)
	if _, err := q.Fetch(t.Context(), idOf("1"), ""); err == nil {
		t.Error("a sequence moves in a read-only transaction")
	}
	if backend(t, pool) != before {
		t.Error("the connection was closed")
	}
}
