package db

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/entity-sync/entity-sync/shared"
)

// DatabaseHub finds the fetch handler of an entity type. It may be used from any
// goroutine.
type DatabaseHub struct {
	mu       sync.RWMutex
	fetchers map[shared.EntityType]shared.Fetcher
}

// NewDatabaseHub returns a hub without handlers.
func NewDatabaseHub() *DatabaseHub {
	return &DatabaseHub{fetchers: make(map[shared.EntityType]shared.Fetcher)}
}

// AddFetcher sets the fetch handler of an entity type, in place of any earlier one. Nil
// removes it.
func (d *DatabaseHub) AddFetcher(entityType shared.EntityType, fetch shared.Fetcher) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fetchers[entityType] = fetch
}

// AddDataPullAndPushHandler sets a classic fetch handler: it passes each row on to the
// function that it is given, before it returns. Nil removes it.
func (d *DatabaseHub) AddDataPullAndPushHandler(entityType shared.EntityType, handler shared.EntityKeySecretByteHandler) {
	if handler == nil {
		d.AddFetcher(entityType, nil)
		return
	}
	d.AddFetcher(entityType, shared.Collect(handler))
}

// Fetch reads the rows of key as the holder of secret may see them. It is a
// shared.Fetcher. Without a handler for the entity type it returns
// shared.ErrUnknownEntity.
func (d *DatabaseHub) Fetch(ctx context.Context, key shared.EntityKey, secret string) ([][]byte, error) {
	d.mu.RLock()
	fetch := d.fetchers[key.Entity]
	d.mu.RUnlock()
	if fetch == nil {
		return nil, shared.ErrUnknownEntity
	}
	return fetch(ctx, key, secret)
}

// PullDataAndPush fetches and passes each row on to push: none for a key that is unknown, gone
// or forbidden. Its type has no error, and a failed fetch must not be taken for an empty one.
// So it panics with any other error, which a Bridge takes for the error of the fetch. Fetch
// returns it.
func (d *DatabaseHub) PullDataAndPush(key shared.EntityKey, secret string, push shared.ByteHandler) {
	rows, err := d.Fetch(context.Background(), key, secret)
	switch {
	case errors.Is(err, shared.ErrUnknownEntity), errors.Is(err, shared.ErrNotFound), errors.Is(err, shared.ErrForbidden):
		return
	case err != nil:
		panic(fmt.Errorf("fetching %q: %w", key.Entity, err))
	}
	for _, row := range rows {
		push(row)
	}
}
