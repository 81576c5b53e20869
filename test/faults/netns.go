package faults

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// namespace is a network of its own, joined to this one by a pair of virtual
// interfaces. It can be cut off so that nothing gets through any more and nobody
// is told: neither end, not even the kernel, learns that the other is gone.
type namespace struct {
	name         string
	outer, inner string // the interfaces
	here, there  string // their addresses
}

// newNamespace makes one until the test ends. Where this is not allowed it says
// why, and the test must use something else.
func newNamespace(t testing.TB) (*namespace, error) {
	t.Helper()
	pid := os.Getpid()
	n := &namespace{
		name:  fmt.Sprintf("faults%d", pid),
		outer: fmt.Sprintf("fo%d", pid),
		inner: fmt.Sprintf("fi%d", pid),
		// From the block that is set aside for tests of networks (RFC 2544).
		here:  fmt.Sprintf("198.18.%d.%d", pid>>6&0xff, pid&0x3f<<2|1),
		there: fmt.Sprintf("198.18.%d.%d", pid>>6&0xff, pid&0x3f<<2|2),
	}
	for i, args := range [][]string{
		{"netns", "add", n.name},
		{"link", "add", n.outer, "type", "veth", "peer", "name", n.inner, "netns", n.name},
		{"addr", "add", n.here + "/30", "dev", n.outer},
		{"link", "set", n.outer, "up"},
		{"-n", n.name, "link", "set", "lo", "up"},
		{"-n", n.name, "addr", "add", n.there + "/30", "dev", n.inner},
		{"-n", n.name, "link", "set", n.inner, "up"},
	} {
		if err := ip(args...); err != nil {
			if i > 0 {
				n.remove(t)
			}
			return nil, err
		}
	}
	t.Cleanup(func() { n.remove(t) })
	return n, nil
}

// remove leaves nothing of it: its interface goes with it, and so does its peer.
func (n *namespace) remove(t testing.TB) {
	t.Helper()
	if err := ip("netns", "del", n.name); err != nil {
		t.Error(err)
	}
}

func ip(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// cut makes both ends send to nobody: the neighbour's hardware address is wrong.
func (n *namespace) cut(t testing.TB) {
	t.Helper()
	const nobody = "02:00:00:00:00:99"
	must(t, ip("neigh", "replace", n.there, "lladdr", nobody, "nud", "permanent", "dev", n.outer))
	must(t, ip("-n", n.name, "neigh", "replace", n.here, "lladdr", nobody, "nud", "permanent", "dev", n.inner))
}

// heal ends cut.
func (n *namespace) heal(t testing.TB) {
	t.Helper()
	must(t, ip("neigh", "del", n.there, "dev", n.outer))
	must(t, ip("-n", n.name, "neigh", "del", n.here, "dev", n.inner))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// inside calls f in the namespace. Sockets that f opens, and processes that it
// starts, stay there.
func (n *namespace) inside(f func()) (err error) {
	runtime.LockOSThread()
	home, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close()
	away, err := os.Open("/var/run/netns/" + n.name)
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer away.Close()
	if err := unix.Setns(int(away.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer func() {
		// A thread that cannot go home stays locked, and ends with its goroutine.
		if err = unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err == nil {
			runtime.UnlockOSThread()
		}
	}()
	f()
	return nil
}

// dial connects from inside.
func (n *namespace) dial(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	var d net.Dialer
	inside := n.inside(func() { conn, err = d.DialContext(ctx, network, addr) })
	return conn, firstError(inside, err)
}
