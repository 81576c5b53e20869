package main

import (
	"flag"
	"fmt"
	"testing"

	"github.com/entity-sync/entity-sync/shared"
)

// A row arrives on the other node, as each person there may see it.
func TestRowsByRole(t *testing.T) { onEachAtOnce(t, testRowsByRole) }

func testRowsByRole(t *testing.T, c Config) {
	d := startDemo(t, c)
	id := addItem(t, d.Nodes[0], "Kettle")
	guest, manager := watch(t, d.Nodes[1], guestSecret), watch(t, d.Nodes[1], managerSecret)
	for _, w := range []*watcher{guest, manager} {
		w.subscribe(itemEntity, id)
		w.item("the snapshot", anyItem)
	}
	send(t, d.Nodes[0], request{method: "PATCH", path: "/api/items/" + id, secret: managerSecret, body: `{"priceCents":1000,"costCents":250}`})
	changed := func(row map[string]any) bool { return row["priceCents"] == 1000.0 }

	row := manager.item("the new price", changed)
	if row["costCents"] != 250.0 || row["marginPercent"] != 75.0 || row["writtenOn"] != "node 1" {
		t.Errorf("the manager got %v", row)
	}
	row = guest.item("the new price", changed)
	for _, secret := range []string{"costCents", "marginPercent"} {
		if _, ok := row[secret]; ok {
			t.Errorf("the guest got %s: %v", secret, row)
		}
	}
}

// Everybody knows that there is a private item, and managers alone know what it is.
func TestPrivateItem(t *testing.T) { onEachAtOnce(t, testPrivateItem) }

func testPrivateItem(t *testing.T, c Config) {
	d := startDemo(t, c)
	id := addPrivate(t, d.Nodes[0], "Kettle")
	path := "/api/items/" + id
	guest, manager := watch(t, d.Nodes[1], guestSecret), watch(t, d.Nodes[1], managerSecret)
	for _, w := range []*watcher{guest, manager} {
		w.subscribe(boardEntity, "all")
		w.until("the list", lists(id, true))
		w.subscribe(privateEntity, id)
	}
	guest.until("that it is forbidden", forbidden(shared.EntityKey{Entity: privateEntity, ID: id}))
	manager.item("the snapshot", anyItem)

	if a := send(t, d.Nodes[0], request{method: "PATCH", path: path, secret: guestSecret, body: `{"add":1}`}); a.status != 403 {
		t.Errorf("a guest who changes it gets %d %v, want 403", a.status, a.body)
	}
	send(t, d.Nodes[0], request{method: "PATCH", path: path, secret: managerSecret, body: `{"add":5}`})
	manager.item("the change", func(row map[string]any) bool { return row["quantity"] == 15.0 })

	// Nor is it there as if it were like any other.
	for _, w := range []*watcher{guest, manager} {
		w.subscribe(itemEntity, id)
		w.until("that there is no such item", func(m message) bool { return m.Action == "delete" && m.Body.ID == id })
	}
}

// The answer to a write says which revision it made, and the row comes with it.
func TestRevisions(t *testing.T) { onEachAtOnce(t, testRevisions) }

func testRevisions(t *testing.T, c Config) {
	d := startDemo(t, c)
	id := addItem(t, d.Nodes[0], "Kettle")
	w := watch(t, d.Nodes[1], guestSecret)
	w.subscribe(itemEntity, id)
	revision := w.item("the snapshot", anyItem)["revision"].(float64)
	for range 3 {
		a := send(t, d.Nodes[0], request{method: "PATCH", path: "/api/items/" + id, secret: guestSecret, body: `{"add":1}`})
		if a.body["revision"] != revision+1 {
			t.Fatalf("the answer to a write of revision %v is %v, want revision %v", revision, a.body, revision+1)
		}
		revision++
		w.item("the row of that revision", func(row map[string]any) bool { return row["revision"] == revision })
	}
}

// A new secret in the same socket changes what is seen.
func TestChangeOfRole(t *testing.T) { onEachAtOnce(t, testChangeOfRole) }

func testChangeOfRole(t *testing.T, c Config) {
	d := startDemo(t, c)
	id := addItem(t, d.Nodes[0], "Kettle")
	w := watch(t, d.Nodes[0], guestSecret)
	w.subscribe(itemEntity, id)
	if row := w.item("the guest's row", anyItem); row["costCents"] != nil {
		t.Errorf("the guest got %v", row)
	}
	w.Secret(managerSecret)
	w.item("the manager's row", func(row map[string]any) bool { return row["costCents"] == 300.0 })
	w.Secret(guestSecret)
	w.item("the guest's row again", func(row map[string]any) bool { return row["costCents"] == nil })
}

// Somebody unknown gets nothing; as soon as they are known, they do.
func TestNobodyGetsNothing(t *testing.T) { onEachAtOnce(t, testNobodyGetsNothing) }

func testNobodyGetsNothing(t *testing.T, c Config) {
	d := startDemo(t, c)
	w := watch(t, d.Nodes[0], "letmein")
	for _, key := range append(itemKeys("any"), wholeBoard, theBus) {
		w.subscribe(key.Entity, key.ID)
		w.until("that it is forbidden", forbidden(key))
	}
	w.Secret(guestSecret)
	w.subscribe(boardEntity, "all")
	w.until("the list", func(m message) bool { return m.Action == "update" })
}

func TestListOfItems(t *testing.T) { onEachAtOnce(t, testListOfItems) }

func testListOfItems(t *testing.T, c Config) {
	d := startDemo(t, c)
	w := watch(t, d.Nodes[1], guestSecret)
	w.subscribe(boardEntity, "all")
	id := addItem(t, d.Nodes[0], "Kettle")
	w.until("the item to be listed", lists(id, true))
	if a := send(t, d.Nodes[0], request{method: "DELETE", path: "/api/items/" + id, secret: managerSecret}); a.status != 200 {
		t.Fatalf("deleting: %d %v", a.status, a.body)
	}
	w.until("the item to be gone", lists(id, false))
}

// While NSQ is away the writing node's own clients are served, and the other
// node's are as soon as it is back.
func TestBusRestart(t *testing.T) {
	d := startDemo(t, Config{})
	id := addItem(t, d.Nodes[0], "Kettle")
	near, far := watch(t, d.Nodes[0], guestSecret), watch(t, d.Nodes[1], guestSecret)
	runs := func(running bool) func(m message) bool {
		return func(m message) bool {
			return m.Action == "update" && m.Body.Entity == busEntity && m.Body.Rows[0]["running"] == running
		}
	}
	for _, w := range []*watcher{near, far} {
		w.subscribe(itemEntity, id)
		w.item("the snapshot", anyItem)
		w.subscribe(busEntity, "nsqd")
		w.until("that the bus is running", runs(true))
	}
	switchBus(t, d.Nodes[1], false)
	for _, w := range []*watcher{near, far} { // whichever of the nodes was asked
		w.until("that the bus is stopped", runs(false))
	}
	a := send(t, d.Nodes[0], request{method: "PATCH", path: "/api/items/" + id, secret: guestSecret, body: `{"quantity":77}`})
	if a.status != 200 || a.body["announced"] != false {
		t.Errorf("a change while NSQ is away: %d %v, want it saved and not announced", a.status, a.body)
	}
	changed := func(row map[string]any) bool { return row["quantity"] == 77.0 }
	near.item("the change, on the node that wrote it", changed)
	switchBus(t, d.Nodes[0], true)
	far.item("the change, once NSQ is back", changed)
}

// Stopping what is stopped and starting what runs is no mistake.
func TestBusSwitchTwice(t *testing.T) {
	d := startDemo(t, Config{})
	for _, running := range []bool{true, false, false, true, true} {
		switchBus(t, d.Nodes[0], running)
		if d.Broker.Running() != running {
			t.Errorf("the bus runs: %v, want %v", !running, running)
		}
	}
}

// Each time takes half a second, in which the nodes try to announce what they cannot.
var switches = flag.Int("switches", 10, "how often TestBusSwitchedOften stops the bus and starts it again")

// Nodes that come back in the moment in which the bus ends do not keep it from ending.
func TestBusSwitchedOften(t *testing.T) {
	d := startDemo(t, Config{})
	id := addItem(t, d.Nodes[0], "Kettle")
	far := watch(t, d.Nodes[1], guestSecret)
	far.subscribe(itemEntity, id)
	far.item("the snapshot", anyItem)
	for i := range *switches {
		switchBus(t, d.Nodes[0], false)
		switchBus(t, d.Nodes[1], true)
		quantity := 100 + i
		a := send(t, d.Nodes[0], request{method: "PATCH", path: "/api/items/" + id, secret: guestSecret, body: fmt.Sprintf(`{"quantity":%d}`, quantity)})
		if a.status != 200 {
			t.Fatalf("a change after %d switches: %d %v", i+1, a.status, a.body)
		}
		far.item("the change, on the other node", func(row map[string]any) bool { return row["quantity"] == float64(quantity) })
	}
}
