package main

import (
	"strings"
	"testing"

	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/internal/testkit"
)

func onPostgreSQL(t *testing.T) (*Demo, *pgtest.Database) {
	t.Helper()
	database := pgtest.Shared(t).NewDatabase(t)
	return startDemo(t, Config{DatabaseURL: database.URL()}), database
}

// patch changes an item as a manager.
func patch(t *testing.T, n *Node, id, body string) {
	t.Helper()
	if a := send(t, n, request{method: "PATCH", path: "/api/items/" + id, secret: managerSecret, body: body}); a.status != 200 {
		t.Fatalf("changing an item: %d %v", a.status, a.body)
	}
}

// TestPostgreSQL runs the board on PostgreSQL: rows written on one node arrive
// on the other, and are there when the board is started again.
func TestPostgreSQL(t *testing.T) {
	t.Parallel()
	config := Config{DatabaseURL: pgtest.Shared(t).NewDatabase(t).URL()}
	var id string
	t.Run("first start", func(t *testing.T) {
		d := startDemo(t, config)
		id = addItem(t, d.Nodes[0], "Kettle")
		w := watch(t, d.Nodes[1], managerSecret)
		w.subscribe(boardEntity, "all")
		if list := w.until("the list", lists(id, true)); len(list.Body.Rows) != len(samples)+1 {
			t.Errorf("the list is %v, want the samples and the new item", list.Body.Rows)
		}
		w.subscribe(itemEntity, id)
		w.item("the snapshot", anyItem)
		for body, changed := range map[string]func(row map[string]any) bool{
			`{"add":-3}`:        func(row map[string]any) bool { return row["quantity"] == 7.0 },
			`{"costCents":123}`: func(row map[string]any) bool { return row["costCents"] == 123.0 },
			`{"name":"Pot"}`:    func(row map[string]any) bool { return row["name"] == "Pot" },
		} {
			send(t, d.Nodes[0], request{method: "PATCH", path: "/api/items/" + id, secret: managerSecret, body: body})
			w.item(body, changed)
		}
		a := send(t, d.Nodes[0], request{method: "PATCH", path: "/api/items/" + id, secret: guestSecret, body: `{"add":-8}`})
		if a.status != 422 {
			t.Errorf("taking more than there is: %d %v, want 422", a.status, a.body)
		}
	})
	t.Run("second start", func(t *testing.T) {
		d := startDemo(t, config)
		w := watch(t, d.Nodes[1], guestSecret)
		w.subscribe(itemEntity, id)
		if row := w.item("the item", anyItem); row["name"] != "Pot" || row["quantity"] != 7.0 {
			t.Errorf("the item is now %v", row)
		}
		w.subscribe(boardEntity, "all")
		if a := send(t, d.Nodes[0], request{method: "DELETE", path: "/api/items/" + id, secret: managerSecret}); a.status != 200 {
			t.Errorf("deleting: %d %v", a.status, a.body)
		}
		if list := w.until("the list without it", lists(id, false)); len(list.Body.Rows) != len(samples) {
			t.Errorf("the list is %v, want the samples", list.Body.Rows)
		}
	})
}

// Whatever is written, and by whomever: no frame that a guest reads tells of costs.
// The database is asked as its superuser, for whom no policy would hold.
func TestPostgreSQLGuestsGetNoCosts(t *testing.T) {
	t.Parallel()
	d, database := onPostgreSQL(t)
	id := addItem(t, d.Nodes[0], "Kettle")
	cost := func(row map[string]any) bool { return row["costCents"] == 321789.0 }
	var guests []*watcher
	for _, node := range d.Nodes {
		guest, manager := watch(t, node, guestSecret), watch(t, node, managerSecret)
		for _, w := range []*watcher{guest, manager} {
			w.subscribe(boardEntity, "all")
			w.subscribe(itemEntity, id)
			w.item("the snapshot", anyItem)
		}
		guests = append(guests, guest)
		for _, body := range []string{`{"costCents":321789}`, `{"costCents":321789,"priceCents":1000}`, `{"add":1}`} {
			patch(t, node, id, body)
			manager.item(body, cost)
		}
		database.Exec(t, `update entity_sync_board.costs set cost_cents = 32178900`)
		database.Exec(t, `update entity_sync_board.costs set cost_cents = 321789`)
		manager.item("the cost that was written directly", cost)
	}
	patch(t, d.Nodes[0], id, `{"quantity":77}`)
	for i, w := range guests {
		w.item("the last change", func(row map[string]any) bool { return row["quantity"] == 77.0 })
		for _, frame := range w.frames {
			if strings.Contains(frame, "cost") || strings.Contains(frame, "margin") || strings.Contains(frame, "321789") {
				t.Errorf("the guest on node %d received %s", i+1, frame)
			}
		}
	}
}

// What the nodes ask the database, it answers to nobody.
func TestPostgreSQLPoliciesHoldForTheNodes(t *testing.T) {
	t.Parallel()
	d, _ := onPostgreSQL(t)
	for _, store := range d.Stores {
		var rows int
		var role string
		err := store.(*postgres).pool.QueryRow(t.Context(), `
			select current_user, (select count(*) from items) + (select count(*) from lists) + (select count(*) from costs)`).Scan(&role, &rows)
		if err != nil || role != postgresRole || rows != 0 {
			t.Errorf("as %q, %d rows, %v; want no rows as %q", role, rows, err, postgresRole)
		}
	}
}

// Writes of programs that know nothing of Entity Sync reach every page.
func TestPostgreSQLDirectWrites(t *testing.T) {
	t.Parallel()
	d, database := onPostgreSQL(t)
	write := func(sql string, args ...any) {
		t.Helper()
		database.Exec(t, sql, args...)
	}
	for _, node := range d.Nodes {
		w := watch(t, node, managerSecret)
		w.subscribe(boardEntity, "all")
		w.until("the list", lists("direct", false))
		write(`insert into entity_sync_board.items (id, name, quantity, price_cents) values ('direct', 'Sieve', 3, 400)`)
		w.until("the item in the list", lists("direct", true))

		w.subscribe(itemEntity, "direct")
		row := w.item("the item", anyItem)
		if _, ok := row["costCents"]; ok || row["name"] != "Sieve" {
			t.Errorf("got %v, want a sieve without a cost", row)
		}
		write(`update entity_sync_board.items set quantity = 2`)
		w.item("the quantity", func(row map[string]any) bool { return row["quantity"] == 2.0 })
		write(`insert into entity_sync_board.costs values ('direct', 100)`)
		w.item("the margin", func(row map[string]any) bool { return row["marginPercent"] == 75.0 })
		write(`delete from entity_sync_board.items where id = 'direct'`)
		w.until("the list without the item", lists("direct", false))
	}
	w := watch(t, d.Nodes[1], guestSecret)
	w.subscribe(boardEntity, "all")
	w.until("the list", lists("direct", false))
	write(`truncate entity_sync_board.items cascade`)
	w.until("that the list is empty", func(m message) bool { return m.Action == "delete" && m.Body.Entity == boardEntity })
}

// A board of before had tables without some columns.
func TestPostgreSQLUpgrade(t *testing.T) {
	t.Parallel()
	d, database := onPostgreSQL(t)
	id := addItem(t, d.Nodes[0], "Kettle")
	for _, node := range d.Nodes {
		if err := node.closeSync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	database.Exec(t, `alter table entity_sync_board.items drop column private, drop column revision`)

	d = startDemo(t, Config{DatabaseURL: database.URL()})
	w := watch(t, d.Nodes[1], guestSecret)
	w.subscribe(itemEntity, id)
	if row := w.item("the item", anyItem); row["name"] != "Kettle" || row["revision"] != 1.0 {
		t.Errorf("the item is now %v", row)
	}
}

// What is written while NSQ is away is in the outbox when it is back, and when
// nothing is left of who wrote it.
func TestPostgreSQLWithoutNSQ(t *testing.T) {
	d, database := onPostgreSQL(t)
	id := addItem(t, d.Nodes[0], "Kettle")
	far := watch(t, d.Nodes[1], guestSecret)
	far.subscribe(itemEntity, id)
	far.item("the snapshot", anyItem)
	if err := d.Broker.Stop(); err != nil {
		t.Fatal(err)
	}
	patch(t, d.Nodes[0], id, `{"quantity":77}`)
	if err := d.Nodes[0].closeSync(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn := database.Connect(t)
	waiting := func() (n int) {
		err := conn.QueryRow(t.Context(), `select count(*) from entity_sync_board.entity_sync_outbox`).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if waiting() == 0 {
		t.Error("the outbox is empty, although nobody could be told")
	}
	startBroker(t, d.Broker, d.Nodes[1])
	far.item("the change", func(row map[string]any) bool { return row["quantity"] == 77.0 })
	testkit.Until(t, "the outbox is empty", func() bool { return waiting() == 0 })
}

func TestPostgreSQLSeveralStartAtOnce(t *testing.T) {
	t.Parallel()
	url := pgtest.Shared(t).NewDatabase(t).URL()
	errs := make(chan error)
	const starts = 5
	for range starts {
		go func() {
			store, err := OpenStore(t.Context(), url, "")
			if err == nil {
				err = store.Close()
			}
			errs <- err
		}()
	}
	for range starts {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// DATABASE_URL is somebody who may make roles, somebody who was given this one, and
// somebody who was not.
func TestPostgreSQLRoles(t *testing.T) {
	t.Parallel()
	server, err := pgtest.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	owned := func(t *testing.T, owner string) *pgtest.Database {
		d := server.NewDatabase(t)
		d.Exec(t, "alter database "+d.Name+" owner to "+owner)
		return d
	}
	server.NewDatabase(t, "create role plain login; create role maker login createrole")
	starts := func(t *testing.T, url string) {
		t.Helper()
		d := startDemo(t, Config{DatabaseURL: url})
		w := watch(t, d.Nodes[1], guestSecret)
		id := addItem(t, d.Nodes[0], "Kettle")
		w.subscribe(itemEntity, id)
		if row := w.item("the item", anyItem); row["costCents"] != nil {
			t.Errorf("the guest got %v", row)
		}
	}
	refused := func(t *testing.T, url, why string) {
		t.Helper()
		d, err := StartDemo(t.Context(), Config{Addrs: [2]string{"127.0.0.1:0", "127.0.0.1:0"}, DatabaseURL: url})
		if err == nil {
			_ = d.Close(t.Context())
			t.Fatal("the board started")
		}
		if !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), `GRANT board_app TO "plain"`) {
			t.Errorf("%v: want %q, and how to mend it", err, why)
		}
	}
	plain := owned(t, "plain")
	refused(t, plain.URLAs("plain"), "permission denied to create role")
	starts(t, owned(t, "maker").URLAs("maker"))
	refused(t, plain.URLAs("plain"), "permission denied to set role")
	plain.Exec(t, "grant board_app to plain")
	starts(t, plain.URLAs("plain"))
}
