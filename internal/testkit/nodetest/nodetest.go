// Package nodetest runs nodes in the process of a test.
package nodetest

import (
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"testing"

	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
)

// New returns a node that is closed when the test ends. Without a Logger it writes to the
// test's output.
func New(t testing.TB, c es.Config) *es.EntitySync {
	t.Helper()
	if c.Logger == nil {
		c.Logger = canary.Logger(canary.Output(t))
	}
	s, err := es.New(c)
	if err != nil {
		t.Fatal(err)
	}
	CloseAtEnd(t, s)
	return s
}

// CloseAtEnd closes a node when the test ends. An error fails the test.
func CloseAtEnd(t testing.TB, s *es.EntitySync) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("closing a node: %v", err)
		}
	})
}

// Node is a node behind an HTTP server.
type Node struct {
	*es.EntitySync
	Server *httptest.Server
	URL    string // of the server
	out    io.Writer
}

// Start is New with a server, which serves until the node is closed.
func Start(t testing.TB, c es.Config) *Node {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	t.Cleanup(server.Close) // after the node
	return serve(t, New(t, c), server)
}

// Serve puts a node that the test has made behind a server. Both end with the test.
func Serve(t testing.TB, s *es.EntitySync) *Node {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	t.Cleanup(server.Close) // after the node
	CloseAtEnd(t, s)
	return serve(t, s, server)
}

func serve(t testing.TB, s *es.EntitySync, server *httptest.Server) *Node {
	server.Config.Handler = s
	server.Start()
	return &Node{s, server, server.URL, canary.Output(t)}
}

// Notify is the EntitySync's. Its error is an output like any other.
func (n *Node) Notify(ctx context.Context, keys ...shared.EntityKey) error {
	err := n.EntitySync.Notify(ctx, keys...)
	if err != nil {
		_, _ = fmt.Fprintln(n.out, "Notify:", err)
	}
	return err
}
