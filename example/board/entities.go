package main

import (
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/shared"
)

// The kinds of things that the page watches: each item by its id, the list of
// items, whose rows are its members, and whether the bus is running.
const (
	itemEntity    shared.EntityType = "board-items"
	privateEntity shared.EntityType = "board-private-items" // items that managers alone may see
	boardEntity   shared.EntityType = "board"
	busEntity     shared.EntityType = "board-bus"
)

// wholeBoard is the key of the list of items.
var wholeBoard = shared.EntityKey{Entity: boardEntity, ID: "all"}

// itemKeys returns the keys under which an item can be watched. It is one of the two.
// Announcing the other costs nothing, because no page watches it.
func itemKeys(id string) []shared.EntityKey {
	return []shared.EntityKey{{Entity: itemEntity, ID: id}, {Entity: privateEntity, ID: id}}
}

// byRole makes a node fetch once for each role of the people who look, because all people of
// one role see the same.
var byRole = es.WithScope(func(secret string) string { return string(RoleOf(secret)) })

// itemRow is an item as it is sent to a page.
type itemRow struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Quantity   int64  `json:"quantity"`
	PriceCents int64  `json:"priceCents"`

	// Every write raises Revision, and its answer has the new one. So the page can tell
	// whether a row includes what was written, or is older.
	Revision int64 `json:"revision"`

	// These let the page say how long a change took to reach it.
	WrittenAt float64 `json:"writtenAt"` // ms since 1970
	WrittenOn string  `json:"writtenOn"`

	// For managers; a guest's row simply has no such fields.
	CostCents     *int64   `json:"costCents,omitempty"`
	MarginPercent *float64 `json:"marginPercent,omitempty"` // of the price; absent if the price is 0
}

// itemSQL reads itemRows. A guest's query must find no cost to join: on SQLite its argument
// asks for none, on PostgreSQL a policy shows none.
const itemSQL = `
	SELECT i.id, i.name, i.quantity, i.price_cents, i.revision, i.written_at / 1000.0 AS written_at, i.written_on,
		c.cost_cents, round(100.0 * (i.price_cents - c.cost_cents) / nullif(i.price_cents, 0), 1) AS margin_percent
	FROM items i LEFT JOIN costs c ON c.item = i.id`

// memberRow is an item in the list of items. Everybody may know that there is a private item.
type memberRow struct {
	ID      string `json:"id"`
	Private bool   `json:"private"` // watched as privateEntity
}

// membersSQL reads the memberRows of a list, oldest first.
const membersSQL = `SELECT id, private FROM items WHERE list = $1 ORDER BY created_at, id`

// busRow says whether the bus is running.
type busRow struct {
	Running bool `json:"running"`
}
