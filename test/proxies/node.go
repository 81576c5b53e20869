package proxies

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/entity-sync/entity-sync/internal/testkit"
)

// node is a process. It has the same address whenever it runs.
type node struct {
	nodeConfig
	cmd *exec.Cmd
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
	t.Helper()
	what, err := json.Marshal(n.nodeConfig)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), nodeVariable+"="+string(what), "GORACE=atexit_sleep_ms=0") // or the race detector sleeps for a second at the end
	cmd.Stderr = t.Output()
	if _, err := cmd.StdinPipe(); err != nil { // held open: the child ends when it closes
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return errors.Join(err, cmd.Wait())
	}
	n.cmd, n.Addr = cmd, strings.TrimSpace(addr)
	return nil
}

// tell sends the process a signal.
func (n *node) tell(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := n.cmd.Process.Signal(s); err != nil {
		t.Fatalf("sending %v to node %s: %v", s, n.Name, err)
	}
}

// end has the process end by a signal. After SIGTERM it must end without an error.
func (n *node) end(t *testing.T, s syscall.Signal) {
	t.Helper()
	if n.cmd == nil {
		return
	}
	n.tell(t, s)
	if err := n.cmd.Wait(); err != nil && s != syscall.SIGKILL {
		t.Errorf("node %s ended with %v", n.Name, err)
	}
	n.cmd = nil
}
