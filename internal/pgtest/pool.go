package pgtest

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/entity-sync/entity-sync/db"
)

// Pool returns a pool of at most n connections, made as applications make theirs,
// until the test ends.
func Pool(t testing.TB, url string, n int32) *pgxpool.Pool {
	t.Helper()
	c, err := db.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	c.MaxConns = n
	pool, err := pgxpool.NewWithConfig(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}
