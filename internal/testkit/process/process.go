// Package process runs a part of the system as a process of its own, so that a test can
// end, kill, stop and start it: the test binary again, in a role.
package process

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/internal/testkit"
)

// variable holds the role of a child, and after a space what it is told, as JSON.
const variable = "ENTITY_SYNC_TEST_ROLE"

// Main must be called early in TestMain, for each role. In a child process of that role it
// runs it with what it is told, and ends the process: with code 1 where it returns an error.
func Main[C any](role string, run func(C) error) {
	name, config, _ := strings.Cut(os.Getenv(variable), " ")
	if name != role {
		return
	}
	var c C
	err := json.Unmarshal([]byte(config), &c)
	if err == nil {
		err = run(c)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", role, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Terminated is for a role. It receives a value when the process is to end: by SIGTERM, or
// because the test has ended, however that did.
func Terminated() <-chan os.Signal {
	terminate := make(chan os.Signal, 2)
	signal.Notify(terminate, syscall.SIGTERM)
	go func() { // until the process ends
		_, _ = os.Stdin.Read(make([]byte, 1)) // the test's end of the pipe closes
		terminate <- syscall.SIGTERM
	}()
	return terminate
}

// Options say how a process runs. The zero value works.
type Options struct {
	// Output takes what the process writes to standard error, and what it says after its
	// first line. Nil is for nowhere.
	Output io.Writer

	// Log names a file to which all that is added, in place of Output.
	Log string

	// Env is the environment beside the test's own.
	Env []string
}

// Process is a child.
type Process struct {
	// Hello is the first line that it said, such as its address.
	Hello string

	cmd   *exec.Cmd
	ended chan struct{}
	err   error // how it ended, once ended is closed
}

// Start starts a process in a role, and waits until it has said a line: by then it is
// ready. One that ends before that is an error.
func Start(role string, config any, o Options) (*Process, error) {
	what, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(os.Args[0]) //nolint:gosec,noctx // the test itself, which ends it
	cmd.Env = append(os.Environ(), variable+"="+role+" "+string(what),
		"GORACE=atexit_sleep_ms=0") // or the race detector sleeps for a second at the end
	cmd.Env = append(cmd.Env, o.Env...)
	out, closeOut, err := o.output()
	if err != nil {
		return nil, err
	}
	p := &Process{cmd: cmd, ended: make(chan struct{})}
	if err := p.start(out, closeOut); err != nil {
		return nil, errors.Join(fmt.Errorf("starting a %s: %w", role, err), closeOut())
	}
	return p, nil
}

// output returns what takes the output, and how to close it.
func (o Options) output() (io.Writer, func() error, error) {
	switch {
	case o.Log != "":
		f, err := os.OpenFile(o.Log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, nil, err
		}
		return f, f.Close, nil
	case o.Output != nil:
		return o.Output, func() error { return nil }, nil
	default:
		return io.Discard, func() error { return nil }, nil
	}
}

func (p *Process) start(to io.Writer, closeTo func() error) error {
	p.cmd.Stderr = to
	if _, err := p.cmd.StdinPipe(); err != nil { // held open: the child ends when it closes
		return err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	said := bufio.NewReader(out)
	hello, err := said.ReadString('\n')
	if err != nil {
		return errors.Join(err, p.cmd.Wait())
	}
	p.Hello = strings.TrimSpace(hello)
	go func() { // until the process ends, for which End waits
		defer close(p.ended)
		_, err := io.Copy(to, said)
		p.err = first(err, p.cmd.Wait(), closeTo())
	}()
	return nil
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Pid is the system's number of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Err returns how the process has ended, once Ended is closed.
func (p *Process) Err() error {
	<-p.ended
	return p.err
}

// State is what the system says of how the process has ended, once Ended is closed.
func (p *Process) State() *os.ProcessState {
	<-p.ended
	return p.cmd.ProcessState
}

// Signal sends the process a signal. One that has ended takes it like any other.
func (p *Process) Signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatalf("sending %v to a process: %v", s, err)
	}
}

// End sends the process a signal that ends it, and returns how it ended. One that does not
// end within a minute is killed, with its stacks written, and fails the test.
func (p *Process) End(t testing.TB, s syscall.Signal) error {
	t.Helper()
	p.Signal(t, s)
	select {
	case <-p.ended:
	case <-time.After(testkit.Patience):
		t.Errorf("a process has not ended %v after %v", testkit.Patience, s)
		p.Signal(t, syscall.SIGQUIT)
		select {
		case <-p.ended:
		case <-time.After(testkit.Patience):
			p.Signal(t, syscall.SIGKILL)
			<-p.ended
		}
	}
	return p.err
}

// Freeze makes the process do nothing until Thaw. It returns when the process has stopped:
// a signal takes its time to arrive.
func (p *Process) Freeze(t testing.TB) {
	t.Helper()
	p.Signal(t, syscall.SIGSTOP)
	testkit.Until(t, "a process has stopped", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
		return err != nil || strings.Contains(string(stat), ") T ") // or there is no /proc to ask
	})
}

// Thaw ends Freeze.
func (p *Process) Thaw(t testing.TB) {
	t.Helper()
	p.Signal(t, syscall.SIGCONT)
}
