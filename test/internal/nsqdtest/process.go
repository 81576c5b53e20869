package nsqdtest

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/nsqio/nsq/nsqd"
)

// childVariable makes a test binary be an nsqd at the address it holds, so that
// a test can freeze or kill one without ending itself.
const childVariable = "ENTITY_SYNC_TEST_NSQD"

// Main must be called first in TestMain. In a child it is an nsqd and never
// returns.
func Main() {
	addr := os.Getenv(childVariable)
	if addr == "" {
		return
	}
	if err := beDaemon(addr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func beDaemon(addr string) error {
	dir, err := os.MkdirTemp("", "nsqd")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	daemon, err := newDaemon(addr, dir)
	if err != nil {
		return err
	}
	go func() {
		// Ends with the test, however that ends: its end of the pipe closes.
		os.Stdin.Read(make([]byte, 1))
		daemon.Exit()
	}()
	fmt.Println(daemon.RealTCPAddr())
	return daemon.Main()
}

func newDaemon(addr, dir string) (*nsqd.NSQD, error) {
	o := nsqd.NewOptions()
	o.TCPAddress = addr
	o.HTTPAddress = "127.0.0.1:0"
	o.HTTPSAddress = ""
	o.DataPath = dir
	o.Logger = quiet{}
	return nsqd.New(o)
}

type quiet struct{}

func (quiet) Output(int, string) error { return nil }

// Process is an nsqd in a process of its own.
type Process struct {
	Addr string // host:port of its TCP protocol
	cmd  *exec.Cmd
}

// StartProcess runs an nsqd in a process of its own until the test ends.
func StartProcess(t testing.TB) *Process {
	t.Helper()
	p := &Process{Addr: "127.0.0.1:0"}
	p.Start(t)
	t.Cleanup(func() { p.Kill(t) })
	return p
}

// Start starts it again after Kill, at the same address.
func (p *Process) Start(t testing.TB) {
	t.Helper()
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = p.start(); err == nil {
			return
		}
	}
	t.Fatalf("starting an nsqd process at %s: %v", p.Addr, err)
}

func (p *Process) start() error {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+p.Addr)
	if _, err := cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return errors.Join(err, cmd.Wait())
	}
	p.Addr, p.cmd = line[:len(line)-1], cmd
	return nil
}

// Signal sends it a signal, such as SIGSTOP and SIGCONT.
func (p *Process) Signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("sending %v to nsqd: %v", s, err)
	}
}

// Kill ends it at once, as kill -9 does.
func (p *Process) Kill(t testing.TB) {
	t.Helper()
	if p.cmd == nil {
		return
	}
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatalf("killing nsqd: %v", err)
	}
	p.cmd.Wait() // says that it was killed
	p.cmd = nil
}
