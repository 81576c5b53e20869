package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/entity-sync/entity-sync/shared"
)

// Store keeps the board's rows in SQL that SQLite and PostgreSQL both speak.
type Store struct {
	db *sql.DB
}

// maxItems bounds the board, well within the subscriptions a client may have.
const maxItems = 100

var (
	errFull     = fmt.Errorf("the board is full: it holds %d items", maxItems)
	errQuantity = fmt.Errorf("the quantity must stay from 0 to %d", maxQuantity)
)

// Close closes the database.
func (s *Store) Close() error { return s.db.Close() }

// Item returns one item, or shared.ErrNotFound.
func (s *Store) Item(ctx context.Context, id string) (Item, error) {
	item := Item{ID: id}
	var at int64
	err := s.db.QueryRowContext(ctx, `
		SELECT name, quantity, price_cents, cost_cents, written_at, written_on
		FROM board_items WHERE id = $1`, id,
	).Scan(&item.Name, &item.Quantity, &item.PriceCents, &item.CostCents, &at, &item.Written.Node)
	if errors.Is(err, sql.ErrNoRows) {
		return Item{}, shared.ErrNotFound
	}
	if err != nil {
		return Item{}, fmt.Errorf("reading an item: %w", err)
	}
	item.Written.At = time.UnixMicro(at)
	return item, nil
}

// List returns the ids of all items, oldest first, and when that list last changed.
func (s *Store) List(ctx context.Context) (ids []string, written Stamp, err error) {
	// The stamp is read first: a list that is newer than its stamp is announced
	// again anyway, the other way round a change would seem to have arrived.
	var at int64
	err = s.db.QueryRowContext(ctx, `SELECT written_at, written_on FROM board_list WHERE id = 1`).Scan(&at, &written.Node)
	if err != nil {
		return nil, Stamp{}, err
	}
	written.At = time.UnixMicro(at)
	rows, err := s.db.QueryContext(ctx, `SELECT id FROM board_items ORDER BY created_at, id`)
	if err != nil {
		return nil, Stamp{}, err
	}
	defer rows.Close()
	ids = []string{} // [] on the wire, not null
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, Stamp{}, err
		}
		ids = append(ids, id)
	}
	return ids, written, rows.Err()
}

// Add adds an item and returns its id, or errFull.
func (s *Store) Add(ctx context.Context, n NewItem, by Stamp) (id string, err error) {
	id = strings.ToLower(rand.Text()[:10])
	err = s.changeList(ctx, by, func(tx *sql.Tx) error {
		var count int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM board_items`).Scan(&count); err != nil {
			return err
		}
		if count >= maxItems {
			return errFull
		}
		at := by.At.UnixMicro()
		_, err := tx.ExecContext(ctx, `
			INSERT INTO board_items (id, name, quantity, price_cents, cost_cents, created_at, written_at, written_on)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			id, n.Name, n.Quantity, n.PriceCents, n.CostCents, at, at, by.Node)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("adding an item: %w", err)
	}
	return id, nil
}

// Delete deletes an item, or returns shared.ErrNotFound.
func (s *Store) Delete(ctx context.Context, id string, by Stamp) error {
	err := s.changeList(ctx, by, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `DELETE FROM board_items WHERE id = $1`, id)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, shared.ErrNotFound)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("deleting an item: %w", err)
	}
	return nil
}

// changeList runs change in a transaction that has first stamped the list, which
// makes those who would change it meanwhile wait.
func (s *Store) changeList(ctx context.Context, by Stamp, change func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // nothing to do after Commit
	_, err = tx.ExecContext(ctx, `UPDATE board_list SET written_at = $1, written_on = $2 WHERE id = 1`,
		by.At.UnixMicro(), by.Node)
	if err != nil {
		return err
	}
	if err := change(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// Change changes an item. It returns shared.ErrNotFound, or errQuantity where
// adding to the quantity would leave its range.
func (s *Store) Change(ctx context.Context, id string, c Change, by Stamp) error {
	var step int64
	if c.Add != nil {
		step = *c.Add
	}
	// One statement, so that of two people who add at the same time neither is lost.
	result, err := s.db.ExecContext(ctx, `
		UPDATE board_items SET
			name        = COALESCE($2, name),
			quantity    = COALESCE($3, quantity) + $4,
			price_cents = COALESCE($5, price_cents),
			cost_cents  = COALESCE($6, cost_cents),
			written_at  = $7,
			written_on  = $8
		WHERE id = $1 AND COALESCE($3, quantity) + $4 BETWEEN 0 AND $9`,
		id, c.Name, c.Quantity, step, c.PriceCents, c.CostCents, by.At.UnixMicro(), by.Node, int64(maxQuantity))
	if err != nil {
		return fmt.Errorf("changing an item: %w", err)
	}
	if n, err := result.RowsAffected(); err != nil || n > 0 {
		return err
	}
	if _, err := s.Item(ctx, id); err != nil {
		return err
	}
	return errQuantity
}
