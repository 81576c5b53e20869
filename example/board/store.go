package main

import (
	"context"
	"fmt"
	"time"

	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/es"
)

// Store is a database with the board's rows, and what a node must know of it.
type Store interface {
	// Add adds an item and returns its id, or errFull.
	Add(ctx context.Context, n NewItem, by Author) (id string, err error)

	// Change changes an item and returns its new revision. It returns shared.ErrNotFound,
	// shared.ErrForbidden for a private item that the author may not see, or errQuantity if
	// adding to the quantity would leave its range.
	Change(ctx context.Context, id string, c Change, by Author) (revision int64, err error)

	// Delete deletes an item, or returns shared.ErrNotFound.
	Delete(ctx context.Context, id string, by Author) error

	// Register sets how a node fetches what the page watches.
	Register(ctx context.Context, node *es.EntitySync) error

	// Outbox is where the keys of written rows wait to be announced. If it is nil, the node
	// that writes announces them.
	Outbox() *outbox.Config

	Close() error
}

// Author is the person who writes, and where and when.
type Author struct {
	Role Role
	Node string
	At   time.Time
}

// maxItems bounds the board, well within the subscriptions that a client may have.
const maxItems = 100

var (
	errFull     = fmt.Errorf("the board is full: it holds %d items", maxItems)
	errQuantity = fmt.Errorf("the quantity must stay from 0 to %d", maxQuantity)
)

// connectTimeout bounds how long a start waits for the database. Tests wait longer.
var connectTimeout = 5 * time.Second

// OpenStore opens the PostgreSQL database at databaseURL, or with an empty one
// an SQLite file in dir, and makes the tables if they are not there.
func OpenStore(ctx context.Context, databaseURL, dir string) (Store, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if databaseURL == "" {
		return openSQLite(ctx, dir)
	}
	store, err := openPostgres(ctx, databaseURL)
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	return store, nil
}
