package faults

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/shared"
)

// database is one test's own, in the PostgreSQL of all of them.
type database struct{ *pgtest.Database }

// newDatabase makes a database with the tables of the nodes.
func newDatabase(t testing.TB) *database {
	t.Helper()
	schema := "create sequence lives;"
	for _, entity := range entityTypes {
		schema += fmt.Sprintf("create table %s (id text primary key, owner text not null, nonce bigint not null, rev bigint not null);", entity)
	}
	return &database{pgtest.Shared(t).NewDatabase(t, schema)}
}

// connect opens a connection that the caller closes.
func (db *database) connect(t testing.TB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.URL())
	if err != nil {
		t.Fatalf("connecting to PostgreSQL: %v", err)
	}
	return conn
}

// rows reads what all clients are to end up with.
func (db *database) rows(t testing.TB) map[shared.EntityKey]row {
	t.Helper()
	conn := db.connect(t)
	defer conn.Close(context.Background())
	all := make(map[shared.EntityKey]row)
	for _, entity := range entityTypes {
		rs, err := conn.Query(t.Context(), fmt.Sprintf("select id, owner, nonce, rev from %s", entity))
		if err != nil {
			t.Fatal(err)
		}
		r := row{Entity: entity}
		_, err = pgx.ForEachRow(rs, []any{&r.ID, &r.Owner, &r.Nonce, &r.Rev}, func() error {
			all[r.key()] = r
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// create writes rows with revision 1, one for each id; owner may be empty.
func (db *database) create(t testing.TB, entity shared.EntityType, owner string, ids ...string) {
	t.Helper()
	conn := db.connect(t)
	defer conn.Close(context.Background())
	sql := fmt.Sprintf("insert into %s (id, owner, nonce, rev) select id, $2, nextval('lives'), 1 from unnest($1::text[]) id", entity)
	if _, err := conn.Exec(t.Context(), sql, ids, owner); err != nil {
		t.Fatal(err)
	}
}

// connections counts those of one node, by the name it has given them.
func connections(ctx context.Context, conn *pgx.Conn, node string) (n int, err error) {
	err = conn.QueryRow(ctx, "select count(*) from pg_stat_activity where application_name = $1", node).Scan(&n)
	return n, err
}
