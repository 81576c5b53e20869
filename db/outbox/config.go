package outbox

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/entity-sync/entity-sync/internal/field"
	"github.com/entity-sync/entity-sync/shared"
)

// Config says how the keys of an outbox are announced. A node does so with es.Config.Outbox.
// Start is for programs that have a Bridge and no EntitySync.
type Config struct {
	// Pool is the database with the outbox. Required. The relay takes one of its
	// connections, and only while a round lasts.
	Pool *pgxpool.Pool

	// Interval is how often the relay reads the outbox while nothing wakes it, and so how late
	// a key may be announced. Zero means 100 ms.
	Interval time.Duration

	// BatchSize is how many rows a round takes at most. After a full round the next one
	// follows at once. Zero means 1,000.
	BatchSize int

	// Listen makes every write to the outbox wake the relay, over a connection beside the
	// pool. It needs EnableWakeUp, whose comment says what that costs. Without EnableWakeUp
	// Listen has no effect, and the log says so.
	Listen bool

	// Logger gets what an operator should know. Nil means slog.Default().
	Logger *slog.Logger
}

// Announcer is a *bridge.Bridge.
type Announcer interface {
	// Notify announces that keys changed, or returns an error.
	Notify(ctx context.Context, keys ...shared.EntityKey) error

	// EntityTypes returns the entity types that Notify knows.
	EntityTypes() []shared.EntityType
}

const (
	defaultInterval  = 100 * time.Millisecond
	defaultBatchSize = 1000
)

func (c Config) withDefaults() Config {
	if c.Interval == 0 {
		c.Interval = defaultInterval
	}
	if c.BatchSize == 0 {
		c.BatchSize = defaultBatchSize
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c Config) validate() error {
	if c.Pool == nil {
		return field.Errorf("Pool", "is nil")
	}
	return cmp.Or(field.NotNegative("Interval", c.Interval), field.NotNegative("BatchSize", c.BatchSize))
}
