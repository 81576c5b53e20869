package test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/nodetest"
	"github.com/entity-sync/entity-sync/internal/testkit/socket"
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
type node struct{ *nodetest.Node }

// startNode starts a node whose items are in the database.
func startNode(t testing.TB, db *database, c es.Config, opts ...es.Option) *node {
	t.Helper()
	n := &node{nodetest.Start(t, c)}
	if err := es.Register(n.EntitySync, items, db.fetch, opts...); err != nil {
		t.Fatal(err)
	}
	return n
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
	*socket.Conn
	t testing.TB
}

// dial connects a client whose secret is the mark and name.
func (n *node) dial(t testing.TB, name string) *conn {
	t.Helper()
	c := &conn{socket.Dial(t, n.URL), t}
	c.Secret(mark + name)
	return c
}

// watch subscribes, with a snapshot, which also shows that the subscription is live.
func (c *conn) watch(id string) row {
	c.t.Helper()
	c.Send(`{"action":"subscribe","body":{"entity":"items","id":%q,"snapshot":true}}`, id)
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
