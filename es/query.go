package es

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/shared"
)

// RegisterQuery is Register for an entity type whose rows come from PostgreSQL:
//
//	es.RegisterQuery(ctx, sync, "items", db.Batch(pool, `select * from items where id = any($1)`))
//
// It asks the database whether the statements can be run. It returns an error wrapping
// db.ErrBadQuery if they cannot, or db.ErrBadPool if the pool can never work as it is
// configured. A database that cannot be reached before ctx ends is no error: the first fetch
// then checks the statements.
//
// WithBatchSize is for db.Batch and db.BatchOf. Its default is 100 for a query with AsViewer,
// whose viewers are read one after another, within WithTimeout.
//
// The entity types of one pool share three quarters of its connections, as with WithPool,
// which need not be given.
func RegisterQuery(ctx context.Context, s *EntitySync, entity shared.EntityType, query *db.Query, opts ...Option) error {
	if query == nil {
		return fmt.Errorf("es: registering %q: the query is nil", entity)
	}
	set, err := settingsOf(opts)
	if err == nil {
		err = set.forQuery(query)
	}
	if err != nil {
		return fmt.Errorf("es: registering %q: %w", entity, err)
	}
	if set.MaxBytes > 0 {
		query = query.MaxBytes(set.MaxBytes)
	}
	if err := query.Check(ctx); errors.Is(err, db.ErrBadQuery) || errors.Is(err, db.ErrBadPool) {
		return fmt.Errorf("es: registering %q: %w", entity, err)
	} else if err != nil {
		s.log.Warn("a query could not be checked yet", slog.String("entity", string(entity)), slog.Any("error", err))
	}
	set.Precise = true // the query finds out which keys a statement fails for
	return s.add(entity, set, query.FetchBatch)
}

// forQuery completes the settings from the query.
func (s *settings) forQuery(query *db.Query) error {
	if err := s.refuseStamps("queries"); err != nil {
		return err
	}
	n := query.BatchSize()
	if n == 1 {
		if err := s.refuseBatchSize("db.Batch or db.BatchOf"); err != nil {
			return err
		}
	}
	if s.BatchSize == 0 {
		s.BatchSize = n
	}
	if s.pool != nil && s.pool != query.Pool() {
		return errors.New("WithPool has another pool than the query: leave it out")
	}
	s.pool = query.Pool()
	return nil
}

// WithPool says that the fetch handler reads from the pool. All entity types of a pool
// together run no more fetches at once than three quarters of the pool's connections, so that
// some are left for the rest of the application. No entity type can take all of them while
// another one has something to fetch. These fetches do not count for Config.Bridge.MaxFetches.
func WithPool(pool *pgxpool.Pool) Option {
	return func(s *settings) {
		s.refuse(pool == nil, "WithPool's pool")
		s.pool = pool
	}
}

// poolShare is the part of a pool's connections that fetches may have.
const poolShare = 0.75

// fetchesOf returns how many fetches a pool may have at once.
func fetchesOf(pool *pgxpool.Pool) int {
	return max(1, int(float64(pool.Config().MaxConns)*poolShare))
}

// checkWorkers returns an error for more workers than the pool has connections for.
func checkWorkers(s settings) error {
	if most := fetchesOf(s.pool); s.Workers > most {
		return fmt.Errorf("WithWorkers(%d) is more than the %d of the pool's %d connections that fetches may have: ask for no more, or set pool_max_conns in the pool's URL to %d",
			s.Workers, most, s.pool.Config().MaxConns, int(math.Ceil(float64(s.Workers)/poolShare)))
	}
	return nil
}

// limitOf returns the limit that the entity types of a pool share.
func (s *EntitySync) limitOf(pool *pgxpool.Pool) *bridge.Limit {
	limit, _ := s.limits.LoadOrStore(pool, bridge.NewLimit(fetchesOf(pool)))
	return limit.(*bridge.Limit)
}
