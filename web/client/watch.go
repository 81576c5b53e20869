package client

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"

	"github.com/entity-sync/entity-sync/shared"
)

// Row returns the one row of a key as a T. It returns ErrPending if nothing is known,
// shared.ErrNotFound if the key has no row, and u.Err if the key is denied.
func Row[T any](u Update) (row T, err error) {
	rows, err := Rows[T](u)
	if err != nil {
		return row, err
	}
	if len(rows) != 1 {
		return row, fmt.Errorf("client: %s has %d rows, want one", u.Key.Hash(), len(rows))
	}
	return rows[0], nil
}

// Rows is Row for a key with several rows.
func Rows[T any](u Update) ([]T, error) {
	switch {
	case u.Err != nil:
		return nil, u.Err
	case u.Deleted:
		return nil, shared.ErrNotFound
	case u.Rows == nil:
		return nil, ErrPending
	}
	rows := make([]T, len(u.Rows))
	for i, row := range u.Rows {
		if err := json.Unmarshal(row, &rows[i]); err != nil {
			return nil, fmt.Errorf("client: row %d of %s: %w", i+1, u.Key.Hash(), err)
		}
	}
	return rows, nil
}

// Watch subscribes to a key with one row for as long as the caller ranges over it. It yields
// the row and then its changes; a slow caller sees the newest.
//
// An error does not end Watch, as long as the caller goes on. shared.ErrNotFound says that
// there is no row, which may come back. Other errors say why the key is denied, or that the
// row is not a T. Watch ends with ctx, the Client's Close, and after a connection that is
// Denied. It does not say whether the row is up to date: see Subscription.Updates.
func Watch[T any](ctx context.Context, c *Client, key shared.EntityKey) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		s := c.Subscribe(key)
		defer s.Close()
		seen := 0
		for u := range s.Updates(ctx) {
			if u.change == seen || u.Err == nil && !u.Deleted && u.Rows == nil {
				continue // only the state has changed
			}
			seen = u.change
			if !yield(Row[T](u)) {
				return
			}
		}
	}
}

// Get returns the row of a key as soon as it is known, with the errors of Watch, and
// shared.ErrClosed if the Client is closed meanwhile. Unless the key is watched already, it is
// subscribed to for this call alone.
func Get[T any](ctx context.Context, c *Client, key shared.EntityKey) (row T, err error) {
	for row, err := range Watch[T](ctx, c, key) {
		return row, err
	}
	if err := ctx.Err(); err != nil {
		return row, fmt.Errorf("client: %w", err)
	}
	return row, fmt.Errorf("client: %w", shared.ErrClosed)
}
