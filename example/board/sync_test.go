package main

import (
	"slices"
	"testing"

	"github.com/entity-sync/entity-sync/shared"
)

func isItem(row map[string]any) bool { return row["type"] == "item" }

// A row arrives on the other node, as each person there may see it.
func TestRowsByRole(t *testing.T) { onEach(t, testRowsByRole) }

func testRowsByRole(t *testing.T, c Config) {
	d := startDemo(t, c)
	id := addItem(t, d.Nodes[0], "Kettle")
	guest, manager := watch(t, d.Nodes[1], guestSecret), watch(t, d.Nodes[1], managerSecret)
	for _, w := range []*watcher{guest, manager} {
		w.subscribe("board-items", id)
		w.until("the snapshot", isItem)
	}
	send(t, d.Nodes[0], request{method: "PATCH", path: "/api/items/" + id, secret: managerSecret, body: `{"priceCents":1000,"costCents":250}`})
	changed := func(row map[string]any) bool { return row["priceCents"] == 1000.0 }

	row := manager.until("the new price", changed)
	if row["costCents"] != 250.0 || row["marginPercent"] != 75.0 || row["writtenOn"] != "node 1" {
		t.Errorf("the manager got %v", row)
	}
	row = guest.until("the new price", changed)
	for _, secret := range []string{"costCents", "marginPercent"} {
		if _, ok := row[secret]; ok {
			t.Errorf("the guest got %s: %v", secret, row)
		}
	}
}

// A new secret in the same socket changes what is seen.
func TestChangeOfRole(t *testing.T) { onEach(t, testChangeOfRole) }

func testChangeOfRole(t *testing.T, c Config) {
	d := startDemo(t, c)
	id := addItem(t, d.Nodes[0], "Kettle")
	w := watch(t, d.Nodes[0], guestSecret)
	w.subscribe("board-items", id)
	if row := w.until("the guest's row", isItem); row["costCents"] != nil {
		t.Errorf("the guest got %v", row)
	}
	w.say("secret", managerSecret)
	w.until("the manager's row", func(row map[string]any) bool { return row["costCents"] == 300.0 })
	w.say("secret", guestSecret)
	w.until("the guest's row again", func(row map[string]any) bool { return row["costCents"] == nil })
}

// Somebody unknown gets nothing; as soon as they are known, they do.
func TestNobodyGetsNothing(t *testing.T) { onEach(t, testNobodyGetsNothing) }

func testNobodyGetsNothing(t *testing.T, c Config) {
	d := startDemo(t, c)
	w := watch(t, d.Nodes[0], "letmein")
	w.subscribe("board", "all")
	w.say("secret", guestSecret)
	w.subscribe("board", "all")
	w.until("the list", func(row map[string]any) bool {
		if row["type"] != "board" {
			t.Errorf("got %v", row)
		}
		return true
	})
}

func TestNobodyIsRefused(t *testing.T) { onEach(t, testNobodyIsRefused) }

func testNobodyIsRefused(t *testing.T, c Config) {
	d := startDemo(t, c)
	w := watch(t, d.Nodes[0], "letmein", "entity-sync.v2")
	for _, key := range []shared.EntityKey{wholeBoard, itemKey("any")} {
		w.subscribe(string(key.Entity), key.ID)
		w.until("that it is forbidden", func(message map[string]any) bool {
			body, _ := message["body"].(map[string]any)
			return message["action"] == "unsubscribed" && body["entity"] == string(key.Entity) && body["code"] == "forbidden"
		})
	}
}

func TestListOfItems(t *testing.T) { onEach(t, testListOfItems) }

func testListOfItems(t *testing.T, c Config) {
	d := startDemo(t, c)
	w := watch(t, d.Nodes[1], guestSecret)
	w.subscribe("board", "all")
	has := func(id string) func(map[string]any) bool {
		return func(row map[string]any) bool { return slices.Contains(row["items"].([]any), any(id)) }
	}
	id := addItem(t, d.Nodes[0], "Kettle")
	w.until("the item to be listed", has(id))
	if a := send(t, d.Nodes[0], request{method: "DELETE", path: "/api/items/" + id, secret: managerSecret}); a.status != 200 {
		t.Fatalf("deleting: %d %v", a.status, a.body)
	}
	w.until("the item to be gone", func(row map[string]any) bool { return !has(id)(row) })
}

// While NSQ is away the writing node's own clients are served, and the other
// node's are as soon as it is back.
func TestBrokerRestart(t *testing.T) {
	d := startDemo(t, Config{})
	id := addItem(t, d.Nodes[0], "Kettle")
	near, far := watch(t, d.Nodes[0], guestSecret), watch(t, d.Nodes[1], guestSecret)
	for _, w := range []*watcher{near, far} {
		w.subscribe("board-items", id)
		w.until("the snapshot", isItem)
	}
	if err := d.Broker.Stop(); err != nil {
		t.Fatal(err)
	}
	a := send(t, d.Nodes[0], request{method: "PATCH", path: "/api/items/" + id, secret: guestSecret, body: `{"quantity":77}`})
	if a.status != 200 || a.body["announced"] != false {
		t.Errorf("a change while NSQ is away: %d %v, want it saved and not announced", a.status, a.body)
	}
	changed := func(row map[string]any) bool { return row["quantity"] == 77.0 }
	near.until("the change, on the node that wrote it", changed)
	startBroker(t, d.Broker, d.Nodes...)
	far.until("the change, once NSQ is back", changed)
}
