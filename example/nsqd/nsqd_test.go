package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/nodetest"
	"github.com/entity-sync/entity-sync/shared"
)

// patience bounds every wait of these tests. Nothing takes nearly as long.
const patience = 30 * time.Second

// program returns a command that is the program, with temp for its temporary files.
func program(t *testing.T, temp string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+temp, mainVariable+"=1")
	cmd.Stderr = t.Output()
	return cmd
}

// running is the program, started, and what it said.
type running struct {
	cmd  *exec.Cmd
	said string
	rest chan struct{} // closed when it has said all
}

// start starts the program and waits until it has said how it ends.
func start(t *testing.T, cmd *exec.Cmd) *running {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() }) // ends the scan too
	defer watchdog.Stop()
	r := &running{cmd: cmd, rest: make(chan struct{})}
	lines := bufio.NewScanner(io.TeeReader(out, t.Output()))
	for lines.Scan() && !strings.Contains(r.said, "Ctrl-C") {
		r.said += lines.Text() + "\n"
	}
	go func() { // until the program ends
		defer close(r.rest)
		for lines.Scan() {
		}
	}()
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			<-r.rest
			_ = cmd.Wait()
		}
	})
	return r
}

// after returns the word that stands in what the program said after some text.
func (r *running) after(t *testing.T, text string) string {
	t.Helper()
	_, rest, found := strings.Cut(r.said, text)
	if !found {
		t.Fatalf("the program said %q, want something with %q", r.said, text)
	}
	return strings.Fields(rest)[0]
}

func (r *running) stop(t *testing.T, s os.Signal) {
	t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(patience, func() { _ = r.cmd.Process.Kill() })
	defer watchdog.Stop()
	<-r.rest
	if err := r.cmd.Wait(); err != nil {
		t.Errorf("after %v the program ended with %v, want exit code 0", s, err)
	}
}

// A node uses it as any nsqd, and does not keep it from ending; what is set is what it
// says.
func TestNSQD(t *testing.T) {
	for name, s := range map[string]os.Signal{"interrupted": os.Interrupt, "terminated": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			temp := t.TempDir()
			r := start(t, program(t, temp, "-tcp-address", "127.0.0.1:0", "-http-address", "127.0.0.1:0"))
			node := startNode(t, r.after(t, "export NSQ_ADDR="))
			answer, err := http.Get(r.after(t, "Statistics: "))
			if err != nil {
				t.Fatal(err)
			}
			statistics, err := io.ReadAll(answer.Body)
			answer.Body.Close()
			if err != nil || !strings.Contains(string(statistics), "[items") {
				t.Errorf("the statistics are %q (%v), want the node's topic in them", statistics, err)
			}
			if err := node.Notify(t.Context(), shared.EntityKey{Entity: "items", ID: "1"}); err != nil {
				t.Error(err)
			}
			r.stop(t, s)
			if files, err := os.ReadDir(temp); err != nil || len(files) > 0 {
				t.Errorf("left behind: %v %v", files, err)
			}
		})
	}
}

// startNode starts a node on an nsqd, and waits until it is subscribed there.
func startNode(t *testing.T, addr string) *es.EntitySync {
	t.Helper()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	node := nodetest.New(t, es.Config{NSQAddr: addr})
	err := es.Register(node, "items", func(context.Context, shared.EntityKey, string) (map[string]any, error) {
		return nil, shared.ErrNotFound
	})
	if err != nil {
		t.Fatal(err)
	}
	testkit.Until(t, "the node is subscribed", node.Ready)
	return node
}

// A folder that is named is made, used and kept.
func TestDataPath(t *testing.T) {
	temp, data := t.TempDir(), filepath.Join(t.TempDir(), "made", "data")
	r := start(t, program(t, temp, "-tcp-address", "127.0.0.1:0", "-http-address", "", "-data-path", data))
	if r.after(t, "Messages: ") != data {
		t.Errorf("the program said %q, want %s in it", r.said, data)
	}
	r.stop(t, syscall.SIGTERM)
	if _, err := os.Stat(filepath.Join(data, "nsqd.dat")); err != nil {
		t.Error(err)
	}
	if files, err := os.ReadDir(temp); err != nil || len(files) > 0 {
		t.Errorf("left behind: %v %v", files, err)
	}
}

func TestMistakes(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"its port is taken":      {[]string{"-tcp-address", taken}, 1, taken + " is taken, perhaps by an nsqd: use that one, or choose another address with -tcp-address"},
		"its HTTP port is taken": {[]string{"-tcp-address", "127.0.0.1:0", "-http-address", taken}, 1, taken},
		"an argument":            {[]string{"4150"}, 2, `what is "4150"?`},
		"an unknown flag":        {[]string{"-lookupd"}, 2, "flag provided but not defined"},
	} {
		t.Run(name, func(t *testing.T) {
			temp := t.TempDir()
			cmd := program(t, temp, c.args...)
			var said strings.Builder
			cmd.Stderr = io.MultiWriter(&said, t.Output())
			var exit *exec.ExitError
			if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != c.code {
				t.Errorf("the program ended with %v, want exit code %d", err, c.code)
			}
			if !strings.Contains(said.String(), c.says) {
				t.Errorf("the program said %q, want %q in it", &said, c.says)
			}
			if files, err := os.ReadDir(temp); err != nil || len(files) > 0 {
				t.Errorf("left behind: %v %v", files, err)
			}
		})
	}
}
