package outbox_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/shared"
)

// Nil in place of a connection, a transaction or a bus is an error, whether the
// interface holds a nil pointer or nothing.
func TestNilIsAnError(t *testing.T) {
	ctx, key := t.Context(), shared.EntityKey{Entity: "items", ID: "1"}
	var pool *pgxpool.Pool
	var conn *pgx.Conn
	_, start := outbox.Start(outbox.Config{Pool: newPool(t, "postgres://nobody@127.0.0.1:1/nothing")}, nil)
	for what, err := range map[string]error{
		"EnsureSchema":           outbox.EnsureSchema(ctx, nil),
		"EnsureSchema of a pool": outbox.EnsureSchema(ctx, pool),
		"Track":                  outbox.Track(ctx, nil, "items", "items", "id"),
		"Track of a connection":  outbox.Track(ctx, conn, "items", "items", "id"),
		"Untrack":                outbox.Untrack(ctx, nil, "items", "items"),
		"EnableWakeUp":           outbox.EnableWakeUp(ctx, nil),
		"NotifyTx":               outbox.NotifyTx(ctx, nil, key),
		"NotifySQLTx":            outbox.NotifySQLTx(ctx, nil, key),
		"Start for nothing":      start,
	} {
		if err == nil || !strings.Contains(err.Error(), "is nil") {
			t.Errorf("%s returned %v, want an error that something is nil", what, err)
		}
	}
}
