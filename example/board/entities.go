package main

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/shared"
)

// The two kinds of things that the page watches: each item by its id, and the
// board, whose one row lists the ids of the items there are.
const (
	itemEntity  shared.EntityType = "board-items"
	boardEntity shared.EntityType = "board"
)

// wholeBoard is the key of the list of items.
var wholeBoard = shared.EntityKey{Entity: boardEntity, ID: "all"}

func itemKey(id string) shared.EntityKey {
	return shared.EntityKey{Entity: itemEntity, ID: id}
}

// itemRow is an item as it goes to a page. Frames hold rows and nothing else,
// so the row itself says what it is.
type itemRow struct {
	Type       string `json:"type"`
	ID         string `json:"id"`
	Name       string `json:"name"`
	Quantity   int64  `json:"quantity"`
	PriceCents int64  `json:"priceCents"`
	writtenRow

	// For managers; a guest's row simply has no such fields.
	CostCents     *int64   `json:"costCents,omitempty"`
	MarginPercent *float64 `json:"marginPercent,omitempty"`
}

// boardRow is the list of items.
type boardRow struct {
	Type  string   `json:"type"`
	ID    string   `json:"id"`
	Items []string `json:"items"`
	writtenRow
}

// writtenRow lets the page say how long a change took to reach it.
type writtenRow struct {
	WrittenAt float64 `json:"writtenAt"` // ms since 1970
	WrittenOn string  `json:"writtenOn"`
}

func newWrittenRow(s Stamp) writtenRow {
	return writtenRow{WrittenAt: float64(s.At.UnixMicro()) / 1000, WrittenOn: s.Node}
}

// registerEntities tells a node how to fetch what the page watches. Whatever a
// person may not see is left out here, where the row is made for them.
func registerEntities(sync *es.EntitySync, store *Store) error {
	// Everybody of one role sees the same, so a node fetches once for each role
	// that is looking, however many people are.
	byRole := es.WithScope(func(secret string) string { return string(RoleOf(secret)) })
	return errors.Join(
		es.Register(sync, itemEntity, fetchItem(store), byRole),
		es.Register(sync, boardEntity, fetchBoard(store), byRole),
	)
}

func fetchItem(store *Store) func(context.Context, shared.EntityKey, string) (itemRow, error) {
	return func(ctx context.Context, key shared.EntityKey, secret string) (itemRow, error) {
		role := RoleOf(secret)
		if role == Nobody {
			return itemRow{}, shared.ErrForbidden
		}
		item, err := store.Item(ctx, key.ID)
		if err != nil {
			return itemRow{}, err // shared.ErrNotFound for one that was deleted
		}
		return newItemRow(item, role), nil
	}
}

func newItemRow(item Item, role Role) itemRow {
	row := itemRow{
		Type: "item", ID: item.ID,
		Name: item.Name, Quantity: item.Quantity, PriceCents: item.PriceCents,
		writtenRow: newWrittenRow(item.Written),
	}
	if role == Manager {
		row.CostCents = &item.CostCents
		row.MarginPercent = margin(item)
	}
	return row
}

// margin is the part of the price that is not cost, in percent with one
// decimal. What is given away has none.
func margin(item Item) *float64 {
	if item.PriceCents == 0 {
		return nil
	}
	percent := 100 * float64(item.PriceCents-item.CostCents) / float64(item.PriceCents)
	percent = math.Round(10*percent) / 10
	return &percent
}

func fetchBoard(store *Store) func(context.Context, shared.EntityKey, string) (boardRow, error) {
	return func(ctx context.Context, key shared.EntityKey, secret string) (boardRow, error) {
		if RoleOf(secret) == Nobody {
			return boardRow{}, shared.ErrForbidden
		}
		if key != wholeBoard {
			return boardRow{}, shared.ErrNotFound
		}
		ids, written, err := store.List(ctx)
		if err != nil {
			return boardRow{}, fmt.Errorf("listing the items: %w", err)
		}
		return boardRow{Type: "board", ID: key.ID, Items: ids, writtenRow: newWrittenRow(written)}, nil
	}
}
