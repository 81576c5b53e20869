// Package postgres runs nodes that fetch from a real PostgreSQL, over a real nsqd
// and real sockets: nobody sees another's rows, and what becomes of the database
// is no more than a delay.
package postgres

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/nodetest"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
	"github.com/entity-sync/entity-sync/web/wire"
)

// full runs the tests at the size that the promises are made for.
var full = flag.Bool("postgres.full", false, "run the tests at their full size")

const patience = testkit.Patience

func TestMain(m *testing.M) {
	nsqdtest.Main()
	goleak.VerifyTestMain(m, testkit.ServesHTTP(), testkit.AtEnd(pgtest.End))
}

// node is one of a system.
type node struct{ *nodetest.Node }

func startNode(t testing.TB, nsqd *nsqdtest.Daemon) *node {
	t.Helper()
	return &node{nodetest.Start(t, es.Config{NSQAddr: nsqd.Addr})}
}

func (n *node) register(t testing.TB, entity shared.EntityType, q *db.Query, opts ...es.Option) {
	t.Helper()
	if err := es.RegisterQuery(t.Context(), n.EntitySync, entity, q, opts...); err != nil {
		t.Fatal(err)
	}
}

// client is a v2 client, of a goroutine of its own.
type client struct {
	ws *websocket.Conn
}

func dial(url string) (*client, error) {
	dialer := websocket.Dialer{Subprotocols: []string{wire.SubprotocolV2}, HandshakeTimeout: patience}
	ws, _, err := dialer.Dial("ws"+strings.TrimPrefix(url, "http"), nil)
	return &client{ws}, err
}

func (c *client) send(action, ref string, body any) error {
	return c.ws.WriteJSON(map[string]any{"action": action, "ref": ref, "body": body})
}

// read reads a reply; one that says that something went wrong is an error.
func (c *client) read() (r wire.Reply, err error) {
	if err := c.ws.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return r, err
	}
	_, message, err := c.ws.ReadMessage()
	if err != nil {
		return r, err
	}
	r, ok := wire.ReadReply(message)
	if !ok || r.Code != "" {
		return r, fmt.Errorf("the node says %s", message)
	}
	return r, nil
}
