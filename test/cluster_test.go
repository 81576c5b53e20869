package test

import (
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
)

const items shared.EntityType = "items"

func item(id string) shared.EntityKey { return shared.EntityKey{Entity: items, ID: id} }

// row is what the tests' database holds and their clients see.
type row struct {
	ID  string `json:"id"`
	Rev int    `json:"rev"`
	For string `json:"for"`
}

// database is shared by the nodes, as a real one would be.
type database struct {
	mu  sync.Mutex
	rev map[string]int
}

func (d *database) write(id string) (rev int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.rev == nil {
		d.rev = make(map[string]int)
	}
	d.rev[id]++
	return d.rev[id]
}

func (d *database) now(id string) (rev int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rev[id]
}

func (d *database) fetch(_ context.Context, key shared.EntityKey, secret string) (row, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return row{key.ID, d.rev[key.ID], secret}, nil
}

// mark is in all secrets, so that one which gets out is found.
const mark = canary.Mark

// node is one server.
type node struct {
	*es.EntitySync
	server *httptest.Server
	out    io.Writer // takes what is to be searched
}

func startNode(t testing.TB, db *database, c es.Config, opts ...es.Option) *node {
	t.Helper()
	c.Logger = canary.Logger(canary.Output(t))
	s, err := es.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := es.Register(s, items, db.fetch, opts...); err != nil {
		t.Fatal(err)
	}
	n := &node{s, httptest.NewServer(s), canary.Output(t)}
	t.Cleanup(n.stop(t))
	return n
}

// Notify is the EntitySync's. Its error is an output like any other.
func (n *node) Notify(ctx context.Context, keys ...shared.EntityKey) error {
	err := n.EntitySync.Notify(ctx, keys...)
	if err != nil {
		fmt.Fprintln(n.out, "Notify:", err)
	}
	return err
}

func (n *node) stop(t testing.TB) func() {
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := n.Close(ctx); err != nil {
			t.Errorf("closing a node: %v", err)
		}
		n.server.Close()
	}
}

func (n *node) notify(t testing.TB, ids ...string) {
	t.Helper()
	var keys []shared.EntityKey
	for _, id := range ids {
		keys = append(keys, item(id))
	}
	if err := n.Notify(context.Background(), keys...); err != nil {
		t.Fatal(err)
	}
}

func untilReady(t testing.TB, nodes ...*node) {
	t.Helper()
	for i, n := range nodes {
		testkit.Until(t, fmt.Sprintf("node %d is on the bus", i), n.Bridge.Ready)
	}
}

// conn is a WebSocket client of the classic wire that has said who it is.
type conn struct {
	*websocket.Conn
	t testing.TB
}

// dial connects a client whose secret is the mark and name.
func (n *node) dial(t testing.TB, name string) *conn {
	t.Helper()
	ws, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(n.server.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	c := &conn{ws, t}
	c.send(`{"action":"secret","body":%q}`, mark+name)
	return c
}

func (c *conn) send(format string, args ...any) {
	c.t.Helper()
	if err := c.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, format, args...)); err != nil {
		c.t.Fatal(err)
	}
}

// watch subscribes, with a snapshot, which also shows that the subscription is live.
func (c *conn) watch(id string) row {
	c.t.Helper()
	c.send(`{"action":"subscribe","body":{"entity":"items","id":%q,"snapshot":true}}`, id)
	return c.read()
}

func (c *conn) read() (r row) {
	c.t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	if err := c.ReadJSON(&r); err != nil {
		c.t.Fatal(err)
	}
	return r
}

// readUntil reads until revision rev or a later one arrives.
func (c *conn) readUntil(rev int) row {
	c.t.Helper()
	for {
		if r := c.read(); r.Rev >= rev {
			return r
		}
	}
}
