package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/entity-sync/entity-sync/shared"
)

//go:embed tables.sql
var tablesSQL string

// tables is the part of a Store that SQLite and PostgreSQL share.
type tables struct {
	db *sql.DB

	// setRole tells the database whose transaction it is: the role is $1. Empty if the
	// database does not use it.
	setRole string
}

// write runs change in a transaction of the author.
func (t *tables) write(ctx context.Context, by Author, change func(*sql.Tx) error) error {
	tx, err := t.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // nothing to do after Commit
	if t.setRole != "" {
		if _, err := tx.ExecContext(ctx, t.setRole, string(by.Role)); err != nil {
			return err
		}
	}
	if err := change(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// writeList is write for a change of the list of items. It stamps the list first, so that
// other writers of the list wait.
func (t *tables) writeList(ctx context.Context, by Author, change func(*sql.Tx) error) error {
	return t.write(ctx, by, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE lists SET written_at = $1, written_on = $2 WHERE id = 'all'`, by.At.UnixMicro(), by.Node)
		if err != nil {
			return err
		}
		return change(tx)
	})
}

func (t *tables) Add(ctx context.Context, n NewItem, by Author) (id string, err error) {
	id = strings.ToLower(rand.Text()[:10])
	err = t.writeList(ctx, by, func(tx *sql.Tx) error {
		var count int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM items`).Scan(&count); err != nil {
			return err
		}
		if count >= maxItems {
			return errFull
		}
		_, err := tx.ExecContext(ctx, `
			INSERT INTO items (id, name, quantity, price_cents, private, created_at, written_at, written_on)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			id, n.Name, n.Quantity, n.PriceCents, n.Private, by.At.UnixMicro(), by.At.UnixMicro(), by.Node)
		if err != nil {
			return err
		}
		return setCost(ctx, tx, id, n.CostCents)
	})
	if err != nil {
		return "", fmt.Errorf("adding an item: %w", err)
	}
	return id, nil
}

func (t *tables) Delete(ctx context.Context, id string, by Author) error {
	err := t.writeList(ctx, by, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `DELETE FROM items WHERE id = $1`, id)
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

func (t *tables) Change(ctx context.Context, id string, c Change, by Author) (revision int64, err error) {
	err = t.write(ctx, by, func(tx *sql.Tx) error {
		if revision, err = changeItem(ctx, tx, id, c, by); err != nil || c.CostCents == nil {
			return err
		}
		return setCost(ctx, tx, id, *c.CostCents)
	})
	if err != nil {
		return 0, fmt.Errorf("changing an item: %w", err)
	}
	return revision, nil
}

func changeItem(ctx context.Context, tx *sql.Tx, id string, c Change, by Author) (revision int64, err error) {
	var step int64
	if c.Add != nil {
		step = *c.Add
	}
	// One statement, so that neither is lost if two people add at the same time.
	err = tx.QueryRowContext(ctx, `
		UPDATE items SET
			name        = COALESCE($2, name),
			quantity    = COALESCE($3, quantity) + $4,
			price_cents = COALESCE($5, price_cents),
			revision    = revision + 1,
			written_at  = $6,
			written_on  = $7
		WHERE id = $1 AND COALESCE($3, quantity) + $4 BETWEEN 0 AND $8 AND (NOT private OR $9)
		RETURNING revision`,
		id, c.Name, c.Quantity, step, c.PriceCents, by.At.UnixMicro(), by.Node, int64(maxQuantity), by.Role == Manager).Scan(&revision)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, whyUnchanged(ctx, tx, id, by)
	}
	return revision, err
}

// whyUnchanged says why an item was not changed.
func whyUnchanged(ctx context.Context, tx *sql.Tx, id string, by Author) error {
	var private bool
	err := tx.QueryRowContext(ctx, `SELECT private FROM items WHERE id = $1`, id).Scan(&private)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return shared.ErrNotFound
	case err != nil:
		return err
	case private && by.Role != Manager:
		return shared.ErrForbidden
	default:
		return errQuantity
	}
}

func setCost(ctx context.Context, tx *sql.Tx, id string, cents int64) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO costs (item, cost_cents) VALUES ($1, $2)
		ON CONFLICT (item) DO UPDATE SET cost_cents = excluded.cost_cents`, id, cents)
	return err
}

// samples are put on the board when its tables were just made.
var samples = []NewItem{
	{"Espresso beans", 42, 18_90, 11_20, false},
	{"Oat milk", 120, 2_29, 1_45, false},
	{"Filter papers", 64, 4_50, 1_90, false},
	{"Ceramic cup", 17, 9_80, 4_10, false},
	{"Hand grinder", 4, 74_00, 48_50, false},
	{"Milk jug", 0, 24_50, 13_00, false},
	{"Winter blend", 25, 16_50, 9_80, true},
}

// fill puts the samples on a board that is new. It leaves alone a board that was emptied.
func (t *tables) fill(ctx context.Context) error {
	by := Author{Role: Manager, Node: "the start", At: time.Now()}
	var fresh int64
	err := t.write(ctx, by, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `INSERT INTO lists (id, written_at, written_on) VALUES ('all', 0, '') ON CONFLICT DO NOTHING`)
		if err == nil {
			fresh, err = result.RowsAffected()
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("preparing the list: %w", err)
	}
	if fresh == 0 {
		return nil
	}
	for _, n := range samples {
		by.At = by.At.Add(time.Microsecond) // puts them in order
		if _, err := t.Add(ctx, n, by); err != nil {
			return err
		}
	}
	return nil
}
