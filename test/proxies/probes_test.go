package proxies

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

// A node is not ready before the bus was there once, and from SIGTERM on; in between it
// is, also while the only nsqd is away, or no node would be. It is alive throughout.
func TestProbes(t *testing.T) {
	nsqd := nsqdtest.Start(t)
	nsqd.Stop(t)
	database := pgtest.Shared(t).NewDatabase(t, "create table items (id text primary key, rev int); insert into items values ('0', 1)")
	n := startNode(t, nodeConfig{Name: "node", NSQ: nsqd.Addr, Database: database.URL(), DrainDelay: 10 * patience})
	n.wantProbes(t, "before there is an nsqd", false)

	nsqd.Start(t)
	n.untilReady(t)
	n.wantProbes(t, "with an nsqd", true)

	nsqd.Stop(t)
	testkit.Until(t, "the node has noticed", func() bool {
		subscribed, err := n.get("/bus")
		return err == nil && subscribed == fmt.Sprint(false)
	})
	n.wantProbes(t, "while the nsqd is away", true)

	n.process.Signal(t, syscall.SIGTERM)
	testkit.Until(t, "the node is not ready any more", func() bool {
		_, err := n.get("/readyz")
		return err != nil
	})
	n.wantProbes(t, "after SIGTERM", false)
	nsqd.Start(t)
	w := watchWithoutProxy(t, "0", [2]*node{n, n}, 0)
	testkit.Until(t, "a client is served during the delay", func() bool { return w.knows(1) })
}

// wantProbes asks both.
func (n *node) wantProbes(t *testing.T, when string, ready bool) {
	t.Helper()
	if _, err := n.get("/livez"); err != nil {
		t.Errorf("%s the node is not alive: %v", when, err)
	}
	if _, err := n.get("/readyz"); (err == nil) != ready {
		t.Errorf("%s the node's readiness is %v, want ready: %v", when, err, ready)
	}
}

// The documents show what is tested here.
func TestTheDocsShowTheCode(t *testing.T) {
	for _, code := range []struct{ file, page string }{
		{"probes.go", "operating.md"},
		{"clientaddr.go", "proxies.md"},
	} {
		wantShown(t, code.file, code.page)
	}
}
