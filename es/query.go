package es

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/shared"
)

// RegisterQuery is Register for an entity type whose rows come from PostgreSQL:
//
//	es.RegisterQuery(ctx, sync, "items", db.Batch(pool, `select * from items where id = any($1)`))
//
// It asks the database whether the statements can be run and returns an error
// wrapping db.ErrBadQuery where they cannot. A database that cannot be reached
// before ctx ends is no error: the statements are then checked by the first fetch.
//
// WithBatchSize is for db.Batch. Its default is 100 for a query that is AsViewer,
// whose viewers are read one after another, within WithTimeout.
//
// The entity types of one pool share three quarters of its connections, see
// WithPool.
func RegisterQuery(ctx context.Context, s *EntitySync, entity shared.EntityType, query *db.Query, opts ...Option) error {
	if query == nil {
		return fmt.Errorf("es: registering %q: the query is nil", entity)
	}
	set := settingsOf(append([]Option{WithPool(query.Pool())}, opts...))
	if set.version != nil || set.revision != nil {
		return fmt.Errorf("es: registering %q: WithVersion and WithRevision are not for queries", entity)
	}
	if n := query.BatchSize(); n == 1 || set.BatchSize == 0 {
		set.BatchSize = n
	}
	if set.MaxBytes > 0 {
		query = query.MaxBytes(set.MaxBytes)
	}
	if err := query.Check(ctx); errors.Is(err, db.ErrBadQuery) {
		return fmt.Errorf("es: registering %q: %w", entity, err)
	} else if err != nil {
		s.log.Warn("a query could not be checked yet", slog.String("entity", string(entity)), slog.Any("error", err))
	}
	return s.add(entity, set, query.FetchBatch)
}

// WithPool says that the fetch handler reads from the pool. All entity types of a
// pool together run no more fetches at once than three quarters of its
// connections, so that something is left for the rest of the application, and
// none of them can take them all while another has something to fetch. These
// fetches do not count for Config.MaxFetches.
func WithPool(pool *pgxpool.Pool) Option {
	return func(s *settings) { s.pool = pool }
}

// poolShare is the part of a pool's connections that fetches may have.
const poolShare = 0.75

// limitOf returns what the entity types of a pool share.
func (s *EntitySync) limitOf(pool *pgxpool.Pool) *bridge.Limit {
	limit, _ := s.limits.LoadOrStore(pool, bridge.NewLimit(int(float64(pool.Config().MaxConns)*poolShare)))
	return limit.(*bridge.Limit)
}
