package es_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/nodetest"
	"github.com/entity-sync/entity-sync/shared"
)

func TestANodeAnnouncesWhatIsInTheOutbox(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t)
	pool, err := db.Open(t.Context(), d.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if err := outbox.EnsureSchema(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	write := func(key shared.EntityKey) {
		t.Helper()
		if err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error { return outbox.NotifyTx(t.Context(), tx, key) }); err != nil {
			t.Fatal(err)
		}
	}
	s := nodetest.New(t, es.Config{Outbox: &outbox.Config{Pool: pool, Interval: time.Hour}})
	write(shared.EntityKey{Entity: "items", ID: "1"})
	s.OutboxRelay().Wake()
	fetch := func(context.Context, shared.EntityKey, string) (string, error) { return "a row", nil }
	if err := es.Register(s, "items", fetch); err != nil { // later than the relay has begun
		t.Fatal(err)
	}
	testkit.Until(t, "the key is announced", func() bool {
		s.OutboxRelay().Wake()
		return s.OutboxRelay().Stats().Published == 1
	})
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.OutboxRelay().Stats().Published; got != 1 {
		t.Errorf("%d rows were announced, want 1", got)
	}
	write(shared.EntityKey{Entity: "items", ID: "2"}) // for another node
	s.OutboxRelay().Wake()
	var waiting int
	if err := pool.QueryRow(t.Context(), "select count(*) from entity_sync_outbox").Scan(&waiting); err != nil || waiting != 1 {
		t.Errorf("%d rows wait, %v", waiting, err)
	}
}

func TestANodeWithoutAnOutbox(t *testing.T) {
	s := nodetest.New(t, es.Config{})
	s.OutboxRelay().Wake()
	if s.OutboxRelay() != nil || s.OutboxRelay().Stats() != (outbox.Stats{}) {
		t.Error("there is an outbox")
	}
	if _, err := es.New(es.Config{Outbox: &outbox.Config{}}); err == nil || !strings.Contains(err.Error(), "es.Config.Outbox.Pool: is nil") {
		t.Errorf("New returned %v", err)
	}
}
