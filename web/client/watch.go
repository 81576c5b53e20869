package client

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"

	"github.com/entity-sync/entity-sync/shared"
)

// Row returns the one row of a key as a T. It returns ErrPending where nothing is
// known, shared.ErrNotFound where the key has no row, and why it is denied.
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

// Rows is Row for a key with several.
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

// Watch subscribes to a key with one row for as long as it is ranged over, and
// yields the row and each change of it, the newest where the caller is slow.
//
// An error does not end it, as long as the caller goes on: shared.ErrNotFound says
// that there is no row, which may come back; why it is denied; that the row is no
// T. It ends with ctx, the Client's Close, and after a connection that is Denied.
// Whether the row is up to date is not said: see Subscription.Updates.
func Watch[T any](ctx context.Context, c *Client, key shared.EntityKey) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		s := c.Subscribe(key)
		defer s.Close()
		seen := 0
		for u := range s.Updates(ctx) {
			if u.change == seen || u.Err == nil && !u.Deleted && u.Rows == nil {
				continue // only the state is another
			}
			seen = u.change
			if !yield(Row[T](u)) {
				return
			}
		}
	}
}

// Get returns the row of a key as soon as it is known, with the errors of Watch,
// and shared.ErrClosed where the client is closed meanwhile. For as long as nobody
// else watches the key it is subscribed to for this call alone.
func Get[T any](ctx context.Context, c *Client, key shared.EntityKey) (row T, err error) {
	for row, err := range Watch[T](ctx, c, key) {
		return row, err
	}
	if err := ctx.Err(); err != nil {
		return row, fmt.Errorf("client: %w", err)
	}
	return row, fmt.Errorf("client: %w", shared.ErrClosed)
}
