package pgtest

import (
	"context"
	"net"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/internal/testkit"
)

// Pool returns a pool of at most n connections, made as applications make theirs,
// until the test ends.
func Pool(t testing.TB, url string, n int32) *pgxpool.Pool {
	t.Helper()
	return poolOf(t, url, func(c *pgxpool.Config) { c.MaxConns = n })
}

// PatientPool is Pool without the product's bound on how long a fetch that is cancelled may
// take to end: over it the connection is given up, and a machine that is busy needs longer.
func PatientPool(t testing.TB, url string, n int32) *pgxpool.Pool {
	t.Helper()
	return poolOf(t, url, func(c *pgxpool.Config) {
		c.MaxConns = n
		build := c.ConnConfig.BuildContextWatcherHandler
		c.ConnConfig.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
			h := build(conn)
			if cancels, ok := h.(*pgconn.CancelRequestContextWatcherHandler); ok {
				cancels.DeadlineDelay = testkit.Patience
			}
			return h
		}
	})
}

// MovingPool is Pool with a URL that leads to the host:port in addr, as a name or a
// balancer does that a failover changes.
func MovingPool(t testing.TB, url string, n int32, addr *atomic.Value) *pgxpool.Pool {
	t.Helper()
	return poolOf(t, url, func(c *pgxpool.Config) {
		c.MaxConns = n
		c.ConnConfig.DialFunc = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr.Load().(string))
		}
	})
}

func poolOf(t testing.TB, url string, set func(*pgxpool.Config)) *pgxpool.Pool {
	t.Helper()
	c, err := db.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	set(c)
	pool, err := pgxpool.NewWithConfig(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}
