package es

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/shared"
)

// Option says how an entity type is fetched.
type Option func(*bridge.EntityOptions)

// WithScope shares one fetch among the clients whose secrets have equal scopes,
// such as a tenant or a role: scope must map two secrets to the same value only
// if their holders see the same rows. A function that returns a constant means
// that everybody does. Without it each secret gets a fetch of its own.
func WithScope(scope func(secret string) string) Option {
	return func(o *bridge.EntityOptions) { o.Scope = scope }
}

// WithWorkers sets how many fetches of the entity type run at once on this node.
// The default is 32.
func WithWorkers(n int) Option {
	return func(o *bridge.EntityOptions) { o.Workers = n }
}

// WithTimeout sets how long a fetch may take; a later result is discarded and
// fetched again. The default is 10 s.
func WithTimeout(d time.Duration) Option {
	return func(o *bridge.EntityOptions) { o.Timeout = d }
}

// WithRetry sets how long to wait after a failed fetch: min at first, doubled up
// to max, with full jitter. The default is 100 ms to 30 s.
func WithRetry(min, max time.Duration) Option {
	return func(o *bridge.EntityOptions) { o.Retry = bridge.Retry{Min: min, Max: max} }
}

// WithMaxBytes bounds the rows of one fetch together; more is an error. The
// default is 1 MiB.
func WithMaxBytes(n int) Option {
	return func(o *bridge.EntityOptions) { o.MaxBytes = n }
}

// WithBatchSize bounds how many requests a handler given to RegisterBatch gets
// at once. The default is 10,000.
func WithBatchSize(n int) Option {
	return func(o *bridge.EntityOptions) { o.BatchSize = n }
}

// Register says how the one row of a key of an entity type is fetched, as the
// holder of secret may see it, and starts listening for changes. The row is sent
// as JSON; a []byte or json.RawMessage is sent as it is.
//
// fetch runs in several goroutines at once and should return soon after ctx
// ends. An error that is shared.ErrNotFound, or a row that is null, says that
// there is no such row; shared.ErrForbidden ends the client's subscription; any
// other error is logged and tried again while somebody watches.
//
// It returns an error wrapping shared.ErrBadEntity for a name that cannot be an
// NSQ topic, and shared.ErrDuplicateEntity the second time.
func Register[T any](s *EntitySync, entity shared.EntityType, fetch func(ctx context.Context, key shared.EntityKey, secret string) (T, error), opts ...Option) error {
	if fetch == nil {
		return fmt.Errorf("es: registering %q: the fetch handler is nil", entity)
	}
	return s.register(entity, opts, func(ctx context.Context, key shared.EntityKey, secret string) ([][]byte, error) {
		v, err := fetch(ctx, key, secret)
		if err != nil {
			return nil, err
		}
		row, err := encode(v)
		if err != nil {
			return nil, err
		}
		if row == nil {
			return nil, shared.ErrNotFound
		}
		return [][]byte{row}, nil
	})
}

// RegisterRows is Register for a key with several rows, such as a report, its
// author and its department. They are sent in order. No rows and no error means
// that the key is gone. Rows of different types are a []any.
func RegisterRows[T any](s *EntitySync, entity shared.EntityType, fetch func(ctx context.Context, key shared.EntityKey, secret string) ([]T, error), opts ...Option) error {
	if fetch == nil {
		return fmt.Errorf("es: registering %q: the fetch handler is nil", entity)
	}
	return s.register(entity, opts, func(ctx context.Context, key shared.EntityKey, secret string) ([][]byte, error) {
		vs, err := fetch(ctx, key, secret)
		if err != nil {
			return nil, err
		}
		if len(vs) == 0 {
			return nil, shared.ErrNotFound
		}
		rows := make([][]byte, len(vs))
		for i, v := range vs {
			if rows[i], err = encode(v); err != nil {
				return nil, err
			}
			if rows[i] == nil {
				return nil, fmt.Errorf("row %d of %d is null", i+1, len(vs))
			}
		}
		return rows, nil
	})
}

// RegisterBatch is Register for a handler that fetches several keys, or one key
// for several secrets, in one go, such as with one query. It returns the results
// in the order of the requests; a result's error means what it means to Register.
// WithBatchSize bounds how many requests it gets.
func RegisterBatch(s *EntitySync, entity shared.EntityType, fetch func(ctx context.Context, requests []shared.Request) []shared.Result, opts ...Option) error {
	if fetch == nil {
		return fmt.Errorf("es: registering %q: the fetch handler is nil", entity)
	}
	return s.add(entity, s.Bridge.RegisterBatch(entity, fetch, options(opts)),
		func(ctx context.Context, key shared.EntityKey, secret string) ([][]byte, error) {
			results := fetch(ctx, []shared.Request{{Key: key, Secret: secret}})
			if len(results) != 1 {
				return nil, fmt.Errorf("the batch fetch handler returned %d results for 1 request", len(results))
			}
			return results[0].Rows, results[0].Err
		})
}

func (s *EntitySync) register(entity shared.EntityType, opts []Option, fetch shared.Fetcher) error {
	return s.add(entity, s.Bridge.Register(entity, fetch, options(opts)), fetch)
}

// add notes a registration that came to err in the hub, for who fetches by hand.
func (s *EntitySync) add(entity shared.EntityType, err error, fetch shared.Fetcher) error {
	if err != nil {
		return err
	}
	s.modern.Store(entity, struct{}{})
	s.DatabaseHub.AddFetcher(entity, fetch)
	return nil
}

func options(opts []Option) (o bridge.EntityOptions) {
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// encode returns v as a row that is the engine's from then on, or nil for null.
func encode(v any) ([]byte, error) {
	var row []byte
	switch v := v.(type) {
	case []byte:
		row = bytes.Clone(v)
	case json.RawMessage:
		row = bytes.Clone(v)
	default:
		var err error
		if row, err = json.Marshal(v); err != nil {
			return nil, fmt.Errorf("encoding a row: %w", err)
		}
	}
	if len(row) == 0 || string(row) == "null" {
		return nil, nil
	}
	return row, nil
}
