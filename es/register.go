package es

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/entity-sync/entity-sync/shared"
)

// Register sets the function that fetches the one row of a key of an entity type, as the
// holder of secret may see it, and starts listening for changes. The row is sent as JSON; a
// []byte or json.RawMessage is sent as it is.
//
// fetch runs in several goroutines at once and should return soon after ctx ends. An error
// that is shared.ErrNotFound, or a row that is null, says that there is no such row.
// shared.ErrForbidden ends the client's subscription. Any other error is logged, and the fetch
// is tried again while a client watches.
//
// Register returns an error wrapping shared.ErrBadEntity for a name that cannot be an NSQ
// topic, and shared.ErrDuplicateEntity the second time.
func Register[T any](s *EntitySync, entity shared.EntityType, fetch func(ctx context.Context, key shared.EntityKey, secret string) (T, error), opts ...Option) error {
	return register(s, entity, fetch, opts, func(v T) ([][]byte, error) {
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

// RegisterRows is Register for a key with several rows, such as a report, its author and its
// department. They are sent in order. No rows and no error mean that the key is gone. Rows of
// different types are a []any.
func RegisterRows[T any](s *EntitySync, entity shared.EntityType, fetch func(ctx context.Context, key shared.EntityKey, secret string) ([]T, error), opts ...Option) error {
	return register(s, entity, fetch, opts, func(vs []T) ([][]byte, error) {
		if len(vs) == 0 {
			return nil, shared.ErrNotFound
		}
		rows := make([][]byte, len(vs))
		for i, v := range vs {
			var err error
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

// RegisterBatch is RegisterRows for a handler that fetches several keys, or one key for
// several secrets, at once, such as with one query. The handler returns the results in the
// order of the requests. A result's error means what it means to Register. If all results have
// the same error, or the handler panics, it is called again with parts of the requests, within
// the same time, so that one request does not make the others fail. WithBatchSize bounds how
// many requests it gets.
func RegisterBatch(s *EntitySync, entity shared.EntityType, fetch func(ctx context.Context, requests []shared.FetchRequest) []shared.FetchResult, opts ...Option) error {
	if fetch == nil {
		return fmt.Errorf("es: registering %q: the fetch handler is nil", entity)
	}
	set, err := settingsOf(opts)
	if err == nil {
		err = set.refuseStamps("batches: the handler sets them in shared.FetchResult")
	}
	if err != nil {
		return fmt.Errorf("es: registering %q: %w", entity, err)
	}
	return s.add(entity, set, func(ctx context.Context, requests []shared.FetchRequest) []shared.FetchResult {
		results := fetch(ctx, requests)
		for i, r := range results {
			if r.Err == nil && len(r.Rows) == 0 {
				results[i].Err = shared.ErrNotFound
			}
		}
		return results
	})
}

// register is Register and its like, for a handler that answers one request. encode returns
// the rows of a V.
func register[V any](s *EntitySync, entity shared.EntityType, fetch func(context.Context, shared.EntityKey, string) (V, error), opts []Option, encode func(V) ([][]byte, error)) error {
	if fetch == nil {
		return fmt.Errorf("es: registering %q: the fetch handler is nil", entity)
	}
	set, err := settingsOf(opts)
	if err == nil {
		err = set.refuseBatchSize("RegisterBatch")
	}
	var st stamp[V]
	if err == nil {
		st, err = stampOf[V](set)
	}
	if err != nil {
		return fmt.Errorf("es: registering %q: %w", entity, err)
	}
	set.BatchSize = 1
	return s.add(entity, set, func(ctx context.Context, requests []shared.FetchRequest) []shared.FetchResult {
		v, err := fetch(ctx, requests[0].Key, requests[0].Secret.Reveal())
		if err != nil {
			return []shared.FetchResult{{Err: err}}
		}
		var r shared.FetchResult
		if r.Rows, r.Err = encode(v); r.Err == nil {
			r.Version, r.Revision = st.of(v)
		}
		return []shared.FetchResult{r}
	})
}

// add registers a handler with the engine, and with the hub for programs that fetch by hand.
func (s *EntitySync) add(entity shared.EntityType, set settings, fetch shared.BatchFetcher) error {
	if set.pool != nil {
		if err := checkWorkers(set); err != nil {
			return fmt.Errorf("es: registering %q: %w", entity, err)
		}
		set.Limit = s.limitOf(set.pool)
	}
	if err := s.Bridge.RegisterBatch(entity, fetch, set.EntityOptions); err != nil {
		return err
	}
	s.modern.Store(entity, struct{}{})
	s.DatabaseHub.AddFetcher(entity, func(ctx context.Context, key shared.EntityKey, secret string) ([][]byte, error) {
		results := fetch(ctx, []shared.FetchRequest{{Key: key, Secret: shared.NewSecret(secret)}})
		if len(results) != 1 {
			return nil, fmt.Errorf("the batch fetch handler returned %d results for 1 request", len(results))
		}
		return results[0].Rows, results[0].Err
	})
	return nil
}

// encode returns v as a row that the engine may keep, or nil for null.
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
