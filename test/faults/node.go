package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/testkit/process"
)

// node is a node's process, as the tests see it.
type node struct {
	Addr string // host:port, the same after each start

	config nodeConfig
	log    string // the file that all its output goes to
	http   *http.Client
	wrote  func(writeRequest, written) // is told of every write; may be nil

	mu      sync.Mutex // guards what follows
	process *process.Process
	wanted  bool // somebody ended it
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
	p, err := process.Start(nodeRole, n.config, process.Options{Log: n.log})
	if err != nil {
		t.Fatalf("node %s: %v", n.config.Name, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.Addr, n.process, n.wanted = p.Hello, p, false
}

// kill ends it at once, as kill -9 does.
func (n *node) kill(t testing.TB) { _ = n.end(t, syscall.SIGKILL) } // which is how it ends

// stop ends it as an operator does, and says what was wrong with its end.
func (n *node) stop(t testing.TB) error { return n.end(t, syscall.SIGTERM) }

func (n *node) end(t testing.TB, s syscall.Signal) error {
	t.Helper()
	n.mu.Lock()
	n.wanted = true
	p := n.process
	n.mu.Unlock()
	err := p.End(t, s)
	n.http.CloseIdleConnections()
	return err
}

// running reports whether the process is there.
func (n *node) running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.process.Ended():
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
	case <-n.process.Ended():
		if !n.wanted {
			return fmt.Errorf("it ended by itself (%v)", n.process.State())
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
