package faults

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/internal/canary"
)

// node is a node's process, as the tests see it.
type node struct {
	Addr string // host:port, the same after each start

	config nodeConfig
	log    string // the file that all its output goes to
	http   *http.Client
	wrote  func(writeRequest, written) // is told of every write; may be nil

	mu      sync.Mutex // guards what follows
	cmd     *exec.Cmd
	ended   chan struct{} // closed when the process is gone
	failure error         // how it ended
	wanted  bool          // somebody ended it
}

// startNode runs a node until the test ends. Its end, and its log, are looked at
// by whoever started it.
func startNode(t testing.TB, c nodeConfig) *node {
	t.Helper()
	n := &node{
		Addr: c.Addr, config: c, log: filepath.Join(t.ArtifactDir(), c.Name+".log"),
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}, Timeout: 2 * time.Minute},
	}
	n.start(t)
	return n
}

// start starts it, also again after kill or stop.
func (n *node) start(t testing.TB) {
	t.Helper()
	n.config.Addr = n.Addr
	what, err := json.Marshal(n.config)
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.OpenFile(n.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), nodeVariable+"="+string(what),
		"GORACE=atexit_sleep_ms=0") // or the race detector sleeps for a second at the end
	cmd.Stderr = log
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
	said := bufio.NewReader(out)
	line, err := said.ReadString('\n')
	if err != nil {
		t.Fatalf("starting node %s: %v", n.config.Name, errors.Join(err, cmd.Wait()))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.Addr, n.cmd, n.ended, n.failure, n.wanted = strings.TrimSpace(line), cmd, make(chan struct{}), nil, false
	go n.wait(cmd, said, log, n.ended) // end waits for it
}

// wait adds to the log what the process says, and notes how it ends.
func (n *node) wait(cmd *exec.Cmd, said io.Reader, log *os.File, ended chan struct{}) {
	_, err := io.Copy(log, said)
	err = firstError(err, cmd.Wait(), log.Close())
	n.mu.Lock()
	n.failure = err
	n.mu.Unlock()
	close(ended)
}

// kill ends it at once, as kill -9 does.
func (n *node) kill(t testing.TB) { n.end(t, syscall.SIGKILL) }

// stop ends it as an operator does, and says what was wrong with its end.
func (n *node) stop(t testing.TB) error {
	n.end(t, syscall.SIGTERM)
	return n.failure
}

func (n *node) end(t testing.TB, s syscall.Signal) {
	t.Helper()
	n.mu.Lock()
	n.wanted = true
	ended := n.ended
	n.mu.Unlock()
	n.signal(t, s)
	select {
	case <-ended:
	case <-time.After(patience):
		_ = n.cmd.Process.Kill()
		<-ended
		t.Errorf("node %s had to be killed: it did not end within %v of %v", n.config.Name, patience, s)
	}
	n.http.CloseIdleConnections()
}

func (n *node) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := n.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatalf("sending %v to node %s: %v", s, n.config.Name, err)
	}
}

// running reports whether the process is there.
func (n *node) running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.ended:
		return false
	default:
		return !n.wanted
	}
}

// died returns why the process ended, where nobody ended it.
func (n *node) died() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.ended:
		if !n.wanted {
			return fmt.Errorf("it ended by itself (%v)", n.cmd.ProcessState)
		}
	default:
	}
	return nil
}

// ask sends a request to a node, and reads the answer.
func ask[A any](ctx context.Context, n *node, path string, q any) (a A, err error) {
	body, err := json.Marshal(q)
	if err != nil {
		return a, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+n.Addr+path, bytes.NewReader(body))
	if err != nil {
		return a, err
	}
	response, err := n.http.Do(request)
	if err != nil {
		return a, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		why, err := io.ReadAll(io.LimitReader(response.Body, 1000))
		return a, errors.Join(fmt.Errorf("%s: %s: %s", path, response.Status, bytes.TrimSpace(why)), err)
	}
	return a, json.NewDecoder(response.Body).Decode(&a)
}

func (n *node) write(ctx context.Context, q writeRequest) (written, error) {
	a, err := ask[written](ctx, n, "/write", q)
	if err == nil && n.wrote != nil {
		n.wrote(q, a)
	}
	return a, err
}

func (n *node) storm(t testing.TB, q stormRequest) stormed {
	t.Helper()
	a, err := ask[stormed](t.Context(), n, "/storm", q)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// ready asks it what a load balancer would.
func (n *node) ready(ctx context.Context) (bool, error) {
	return ask[bool](ctx, n, "/ready", struct{}{})
}

// order has it end the sessions of an identity on all nodes.
func (n *node) order(ctx context.Context, q orderRequest) error {
	_, err := ask[struct{}](ctx, n, "/order", q)
	return err
}

// withdraw makes its application refuse an identity from now on.
func (n *node) withdraw(t testing.TB, identity string) {
	t.Helper()
	if _, err := ask[struct{}](t.Context(), n, "/withdraw", identity); err != nil {
		t.Fatal(err)
	}
}

func (n *node) suffer(t testing.TB, s sickness, seed uint64) {
	t.Helper()
	// What a small run returns is enough for one that is kept to be seen, and does not
	// keep a slow machine busy for seconds.
	p := prescription{Sickness: s, Seed: seed, Bytes: sized(16<<20, 50<<20)}
	if _, err := ask[struct{}](t.Context(), n, "/sick", p); err != nil {
		t.Fatal(err)
	}
}

func (n *node) stats(t testing.TB) nodeStats {
	t.Helper()
	s, err := ask[nodeStats](t.Context(), n, "/stats", struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// searchLog returns what must not be in a node's output.
func searchLog(text string) (found []string) {
	for line := range strings.Lines(text) {
		for _, bad := range []string{"DATA RACE", "panic:", "fatal error:", canary.Mark} {
			if strings.Contains(line, bad) {
				found = append(found, fmt.Sprintf("%s, in: %.300s", bad, line))
			}
		}
	}
	return found
}
