package proxies

import (
	"syscall"
	"testing"

	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/process"
)

// node is a process. It has the same address whenever it runs.
type node struct {
	nodeConfig
	process *process.Process
}

// startNode starts a node on a free port, until the test ends.
func startNode(t *testing.T, c nodeConfig) *node {
	t.Helper()
	c.Addr = "127.0.0.1:0"
	n := &node{nodeConfig: c}
	n.start(t)
	t.Cleanup(func() { n.end(t, syscall.SIGKILL) })
	return n
}

// start starts the process, again where another program has taken its port for a moment.
func (n *node) start(t *testing.T) {
	t.Helper()
	var err error
	if !testkit.Within(patience, func() bool {
		err = n.try(t)
		return err == nil
	}) {
		t.Fatalf("starting node %s: %v", n.Name, err)
	}
}

func (n *node) try(t *testing.T) error {
	p, err := process.Start(nodeRole, n.nodeConfig, process.Options{Output: t.Output()})
	if err == nil {
		n.process, n.Addr = p, p.Hello
	}
	return err
}

// end has the process end by a signal. After SIGTERM it must end without an error.
func (n *node) end(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := n.process.End(t, s); err != nil && s != syscall.SIGKILL {
		t.Errorf("node %s ended with %v", n.Name, err)
	}
}
