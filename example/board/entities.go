package main

import (
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

// byRole has a node fetch once for each role that is looking, however many people
// are: everybody of one role sees the same.
var byRole = es.WithScope(func(secret string) string { return string(RoleOf(secret)) })

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
	MarginPercent *float64 `json:"marginPercent,omitempty"` // of the price; what is given away has none
}

// itemSQL reads itemRows. A guest must find no cost to join: SQLite is asked for
// none, PostgreSQL shows none.
const itemSQL = `
	SELECT i.id, 'item' AS type, i.name, i.quantity, i.price_cents, i.written_at / 1000.0 AS written_at, i.written_on,
		c.cost_cents, round(100.0 * (i.price_cents - c.cost_cents) / nullif(i.price_cents, 0), 1) AS margin_percent
	FROM items i LEFT JOIN costs c ON c.item = i.id`

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
