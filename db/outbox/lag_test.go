package outbox_test

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
)

// Rows are as old as the database says, whatever the clocks, and the log says that
// they wait: once, and not for a row that is gone a moment later.
func TestTheLogSaysThatTheOutboxIsBehind(t *testing.T) {
	t.Parallel()
	d := newOutbox(t,
		"insert into entity_sync_outbox (entity, id, written) values ('items', '1', now() - interval '1 hour'), ('strange', '1', now() - interval '1 day')",
		"insert into entity_sync_outbox (entity, id, written) values ('users', '1', now() + interval '1 hour')") // a clock that was set back
	pool := newPool(t, d.URL())
	e := newEar("items", "users")
	e.refusing(func([]shared.EntityKey) error { return errors.New("the bus is down") })
	var log testkit.Buffer
	r := startRelay(t, outbox.Config{Pool: pool, Logger: slog.New(slog.NewTextHandler(&log, nil))}, e)
	testkit.Until(t, "it says so", func() bool { return log.Count("outbox is behind") == 1 && log.Count("entity=strange") == 1 })
	if s := r.Stats(); s.Waiting != 2 || s.Foreign != 1 || s.Oldest < time.Hour || s.Oldest > time.Hour+time.Minute {
		t.Errorf("%+v", s)
	}
	e.refusing(nil)
	testkit.Until(t, "it is gone", func() bool { return r.Stats().Waiting == 0 && r.Stats().Oldest == 0 && r.Stats().Published == 2 })
	if log.Count("outbox is behind") != 1 || log.Count("entity=strange") != 1 {
		t.Error("it says so again and again")
	}
	if e.times(shared.EntityKey{Entity: "users", ID: "1"}) != 1 {
		t.Error("what was written in the future is not announced")
	}
}
