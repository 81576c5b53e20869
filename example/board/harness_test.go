package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/socket"
	"github.com/entity-sync/entity-sync/shared"
)

const patience = testkit.Patience

// startDemo starts the board on free ports, and ends it with the test.
func startDemo(t *testing.T, c Config) *Demo {
	t.Helper()
	c.Addrs = [2]string{"127.0.0.1:0", "127.0.0.1:0"}
	if c.Logger == nil {
		c.Logger = canary.Logger(canary.Output(t))
	}
	d, err := StartDemo(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := d.Close(ctx); err != nil {
			t.Errorf("closing the board: %v", err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return d
}

// onEach runs a test on each database there can be.
func onEach(t *testing.T, test func(t *testing.T, c Config)) {
	t.Run("SQLite", func(t *testing.T) { test(t, Config{}) })
	t.Run("PostgreSQL", func(t *testing.T) { test(t, Config{DatabaseURL: pgtest.Shared(t).NewDatabase(t).URL()}) })
}

// onEachAtOnce is onEach for a test that needs no address again which it has given back:
// another test may have that address meanwhile.
func onEachAtOnce(t *testing.T, test func(t *testing.T, c Config)) {
	t.Parallel()
	onEach(t, func(t *testing.T, c Config) {
		t.Parallel()
		test(t, c)
	})
}

// restartNode starts a node that was closed again, at its address.
func restartNode(t *testing.T, d *Demo, i int, addr string) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	listeners := []net.Listener{d.Nodes[0].listener, d.Nodes[1].listener}
	listeners[i] = l
	node, err := startNode(t.Context(), nodeConfig{
		name: nodeName(i), listener: l, page: pageOf(i, listeners),
		store: d.Stores[i], nsqAddr: d.Broker.Addr(), bus: d.Bus, log: canary.Logger(canary.Output(t)),
	})
	if err != nil {
		t.Fatal(err)
	}
	d.Nodes[i] = node
	if err := node.waitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// startBroker starts the board's nsqd again, and waits for the nodes. Its port may
// be somebody's for a moment: the nodes, trying to reach it, connect from ports of
// the same range.
func startBroker(t *testing.T, b *Broker, nodes ...*Node) {
	t.Helper()
	testkit.Until(t, "nsqd starts again", func() bool {
		err := b.Start()
		if err != nil {
			t.Log(err)
		}
		return err == nil
	})
	for _, n := range nodes {
		if err := n.waitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// switchBus stops or starts the board's NSQ as a page does.
func switchBus(t *testing.T, n *Node, running bool) {
	t.Helper()
	a := send(t, n, request{method: "PUT", path: "/api/bus", secret: guestSecret, body: fmt.Sprintf(`{"running":%v}`, running)})
	if a.status != 200 || a.body["running"] != running {
		t.Fatalf("switching the bus: %d %v", a.status, a.body)
	}
}

// request is one call of a node's API.
type request struct {
	method, path string
	secret       string
	body         string
	contentType  string // application/json if empty, none if "-"
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   map[string]any
}

func (a answer) errorText() string {
	text, _ := a.body["error"].(string)
	return text
}

func send(t *testing.T, n *Node, r request) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), r.method, strings.TrimSuffix(n.URL(), "/")+r.path, strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	switch r.contentType {
	case "":
		req.Header.Set("Content-Type", "application/json")
	case "-":
	default:
		req.Header.Set("Content-Type", r.contentType)
	}
	if r.secret != "" {
		req.Header.Set("Authorization", "Bearer "+r.secret)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header}
	if err := json.Unmarshal(b, &a.body); err != nil {
		t.Fatalf("%s %s: %d with a body that is no JSON object: %q", r.method, r.path, resp.StatusCode, b)
	}
	return a
}

// addItem adds an item as a manager and returns its id.
func addItem(t *testing.T, n *Node, name string) string {
	t.Helper()
	return add(t, n, NewItem{Name: name, Quantity: 10, PriceCents: 500, CostCents: 300})
}

// addPrivate is addItem for one that managers alone may see.
func addPrivate(t *testing.T, n *Node, name string) string {
	t.Helper()
	return add(t, n, NewItem{Name: name, Quantity: 10, PriceCents: 500, CostCents: 300, Private: true})
}

func add(t *testing.T, n *Node, item NewItem) string {
	t.Helper()
	body, err := json.Marshal(item)
	if err != nil {
		t.Fatal(err)
	}
	a := send(t, n, request{method: "POST", path: "/api/items", secret: managerSecret, body: string(body)})
	id, _ := a.body["id"].(string)
	if a.status != http.StatusCreated || id == "" {
		t.Fatalf("adding an item: %d %v", a.status, a.body)
	}
	return id
}

// watcher is a client without a page: a socket and the frames that came.
type watcher struct {
	*socket.Conn
	t      *testing.T
	frames []string // all that was read
}

// message is one from the node.
type message struct {
	Action string
	Body   struct {
		Entity shared.EntityType
		ID     string
		Code   string
		Rows   []map[string]any
	}
}

// watch connects as the page does.
func watch(t *testing.T, n *Node, secret string) *watcher {
	t.Helper()
	w := &watcher{Conn: socket.DialV2(t, n.URL()+"ws/entity-sync/"), t: t}
	w.Secret(secret)
	return w
}

func (w *watcher) subscribe(entity shared.EntityType, id string) {
	w.Subscribe(shared.EntityKey{Entity: entity, ID: id})
}

// until reads messages up to one for which ok is true, and returns that one.
func (w *watcher) until(what string, ok func(message) bool) message {
	w.t.Helper()
	w.t.Logf("waiting for %s", what)
	for {
		frame := w.Read()
		w.frames = append(w.frames, frame)
		var m message
		if err := json.Unmarshal([]byte(frame), &m); err != nil {
			w.t.Fatalf("a frame that is no message: %q", frame)
		}
		if ok(m) {
			return m
		}
	}
}

// item is until for the row of an item.
func (w *watcher) item(what string, ok func(row map[string]any) bool) map[string]any {
	w.t.Helper()
	m := w.until(what, func(m message) bool {
		return m.Action == "update" && (m.Body.Entity == itemEntity || m.Body.Entity == privateEntity) && ok(m.Body.Rows[0])
	})
	return m.Body.Rows[0]
}

// anyItem is for item, where the first will do.
func anyItem(map[string]any) bool { return true }

// lists reports whether the message is the list of items, with an item or without it.
func lists(id string, listed bool) func(message) bool {
	return func(m message) bool {
		return m.Action == "update" && m.Body.Entity == boardEntity &&
			slices.ContainsFunc(m.Body.Rows, func(member map[string]any) bool { return member["id"] == id }) == listed
	}
}

// forbidden reports whether the message says that the key may not be seen.
func forbidden(key shared.EntityKey) func(message) bool {
	return func(m message) bool {
		return m.Action == "unsubscribed" && m.Body.Entity == key.Entity && m.Body.ID == key.ID && m.Body.Code == "forbidden"
	}
}
