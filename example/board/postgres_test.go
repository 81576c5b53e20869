package main

import (
	"slices"
	"testing"

	"github.com/entity-sync/entity-sync/internal/pgtest"
)

// TestPostgreSQL runs the board on PostgreSQL: rows written on one node arrive
// on the other, and are there when the board is started again.
func TestPostgreSQL(t *testing.T) {
	config := Config{DatabaseURL: pgtest.Shared(t).NewDatabase(t).URL()}
	var id string
	t.Run("first start", func(t *testing.T) {
		d := startDemo(t, config)
		id = addItem(t, d.Nodes[0], "Kettle")
		w := watch(t, d.Nodes[1], managerSecret)
		w.subscribe("board", "all")
		w.until("the list", func(row map[string]any) bool {
			return slices.Contains(row["items"].([]any), any(id)) && len(row["items"].([]any)) == len(samples)+1
		})
		w.subscribe("board-items", id)
		w.until("the snapshot", isItem)
		for body, changed := range map[string]func(row map[string]any) bool{
			`{"add":-3}`:        func(row map[string]any) bool { return row["quantity"] == 7.0 },
			`{"costCents":123}`: func(row map[string]any) bool { return row["costCents"] == 123.0 },
			`{"name":"Pot"}`:    func(row map[string]any) bool { return row["name"] == "Pot" },
		} {
			send(t, d.Nodes[0], request{method: "PATCH", path: "/api/items/" + id, secret: managerSecret, body: body})
			w.until(body, changed)
		}
		a := send(t, d.Nodes[0], request{method: "PATCH", path: "/api/items/" + id, secret: guestSecret, body: `{"add":-8}`})
		if a.status != 422 {
			t.Errorf("taking more than there is: %d %v, want 422", a.status, a.body)
		}
	})
	t.Run("second start", func(t *testing.T) {
		d := startDemo(t, config)
		w := watch(t, d.Nodes[1], guestSecret)
		w.subscribe("board-items", id)
		if row := w.until("the item", isItem); row["name"] != "Pot" || row["quantity"] != 7.0 {
			t.Errorf("the item is now %v", row)
		}
		w.subscribe("board", "all")
		if a := send(t, d.Nodes[0], request{method: "DELETE", path: "/api/items/" + id, secret: managerSecret}); a.status != 200 {
			t.Errorf("deleting: %d %v", a.status, a.body)
		}
		w.until("the list without it", func(row map[string]any) bool {
			items, ok := row["items"].([]any)
			return ok && len(items) == len(samples)
		})
	})
}
