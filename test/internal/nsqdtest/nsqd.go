// Package nsqdtest runs a real nsqd or nsqlookupd for a test, as a process of its
// own, so that it can be stopped, killed, frozen and started again.
package nsqdtest

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/internal/freeport"
	"github.com/entity-sync/entity-sync/internal/testkit/process"
)

// Daemon is an nsqd or nsqlookupd, at the same address whenever it runs.
type Daemon struct {
	Addr     string // host:port of its TCP protocol
	HTTPAddr string // host:port of its HTTP port; an nsqd's is another each time

	lookupd bool
	options Options
	dir     string
	process *process.Process
}

// Start runs an nsqd on a free port until the test ends.
func Start(t testing.TB) *Daemon {
	t.Helper()
	return StartWith(t, Options{})
}

// StartWith is Start with options.
func StartWith(t testing.TB, o Options) *Daemon {
	t.Helper()
	return run(t, &Daemon{options: o})
}

// StartLookupd runs an nsqlookupd on free ports until the test ends.
func StartLookupd(t testing.TB) *Daemon {
	t.Helper()
	return run(t, &Daemon{lookupd: true})
}

func run(t testing.TB, d *Daemon) *Daemon {
	t.Helper()
	port, err := freeport.Port() // which it has again after Kill
	if err == nil {
		d.HTTPAddr, err = freeport.Addr()
	}
	if err != nil {
		t.Fatal(err)
	}
	d.Addr, d.dir = net.JoinHostPort(cmp.Or(d.options.Host, "127.0.0.1"), strconv.Itoa(port)), t.ArtifactDir()
	d.Start(t)
	t.Cleanup(func() { d.Kill(t) })
	return d
}

// Start starts it again after Stop or Kill, at the same address.
func (d *Daemon) Start(t testing.TB) {
	t.Helper()
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = d.start(t.Output()); err == nil {
			return
		}
	}
	t.Fatalf("starting a daemon at %s: %v", d.Addr, err)
}

func (d *Daemon) start(log io.Writer) error {
	// A folder for each start: a killed nsqd leaves its own as it was.
	data, err := os.MkdirTemp(d.dir, "nsqd")
	if err != nil {
		return err
	}
	if !d.lookupd {
		d.HTTPAddr = "127.0.0.1:0" // nobody needs to find it again
	}
	what := child{Lookupd: d.lookupd, Addr: d.Addr, HTTPAddr: d.HTTPAddr, Data: data, Options: d.options}
	p, err := process.Start(role, what, process.Options{Output: log, Env: []string{
		// In a test binary with the race detector nsqd has it too. What it finds in
		// nsqd when that ends is not what is tested here.
		"GORACE=exitcode=0 log_path=" + filepath.Join(d.dir, "race"),
	}})
	if err != nil {
		return err
	}
	d.process = p
	_, err = fmt.Sscan(p.Hello, &d.Addr, &d.HTTPAddr)
	return err
}

// Stop ends it as an operator does, with SIGTERM.
func (d *Daemon) Stop(t testing.TB) { d.end(t, syscall.SIGTERM) }

// Kill ends it at once, as kill -9 does.
func (d *Daemon) Kill(t testing.TB) { d.end(t, syscall.SIGKILL) }

func (d *Daemon) end(t testing.TB, s syscall.Signal) {
	t.Helper()
	if d.process == nil {
		return
	}
	_ = d.process.End(t, s) // how it ended depends on the signal
	d.process = nil
}

// Freeze makes it answer nothing, with its connections left open, until Thaw.
func (d *Daemon) Freeze(t testing.TB) {
	t.Helper()
	d.process.Freeze(t)
}

// Thaw ends Freeze.
func (d *Daemon) Thaw(t testing.TB) {
	t.Helper()
	d.process.Thaw(t)
}
