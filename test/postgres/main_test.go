// Package postgres runs nodes that fetch from a real PostgreSQL, over a real nsqd
// and real sockets: nobody sees another's rows, and what becomes of the database
// is no more than a delay.
package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/internal/testkit"
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
type node struct {
	*es.EntitySync
	url string
}

func startNode(t testing.TB, nsqd *nsqdtest.Daemon) *node {
	t.Helper()
	return startNodeWith(t, es.Config{NSQAddr: nsqd.Addr})
}

func startNodeWith(t testing.TB, c es.Config) *node {
	t.Helper()
	c.Logger = canary.Logger(canary.Output(t))
	s, err := es.New(c)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
		server.Close()
	})
	return &node{s, "ws" + strings.TrimPrefix(server.URL, "http")}
}

func (n *node) register(t testing.TB, entity shared.EntityType, q *db.Query, opts ...es.Option) {
	t.Helper()
	if err := es.RegisterQuery(t.Context(), n.EntitySync, entity, q, opts...); err != nil {
		t.Fatal(err)
	}
}

// frame is what a v2 client reads.
type frame struct {
	Action string
	Ref    string
	Body   struct {
		shared.EntityKey
		Code string
		Rows []json.RawMessage
	}
}

// client is a v2 client.
type client struct {
	ws *websocket.Conn
}

func dial(url string) (*client, error) {
	dialer := websocket.Dialer{Subprotocols: []string{wire.SubprotocolV2}, HandshakeTimeout: patience}
	ws, _, err := dialer.Dial(url, nil)
	return &client{ws}, err
}

func (c *client) send(action, ref string, body any) error {
	return c.ws.WriteJSON(map[string]any{"action": action, "ref": ref, "body": body})
}

// read reads a frame; one that says that something went wrong is an error.
func (c *client) read() (f frame, err error) {
	if err := c.ws.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return f, err
	}
	if err := c.ws.ReadJSON(&f); err != nil {
		return f, err
	}
	if f.Action == "error" || f.Action == "unsubscribed" {
		return f, errors.New(f.Action + ": " + f.Body.Code)
	}
	return f, nil
}
