package badinput

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/process"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

// patience is how long a test waits for what must happen.
const patience = testkit.Patience

// canary is in everything that hostile clients say, and must not be in what the
// node says to anybody.
const canary = "canary-5eed"

// node is a node's process, as the tests see it.
type node struct {
	addr string // host:port, for clients
	nsqd *nsqdtest.Daemon

	private string // host:port, for tests
	http    *http.Client
	log     string // the file that all its output goes to
	process *process.Process

	revisions map[string]int // of the bystanders' keys, as last written
}

// startNode runs a node with an nsqd until the test ends, and then looks at how it
// ended and at all that it wrote.
func startNode(t *testing.T, c nodeConfig) *node {
	t.Helper()
	n := &node{nsqd: nsqdtest.Start(t), log: filepath.Join(t.TempDir(), "log"), revisions: map[string]int{}}
	n.http = &http.Client{Transport: &http.Transport{}, Timeout: patience}
	c.NSQ = n.nsqd.Addr
	var err error
	if n.process, err = process.Start(nodeRole, c, process.Options{Log: n.log}); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(n.process.Hello, &n.addr, &n.private); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.end(t) })
	n.until(t, "it is on the bus", func(f figures) bool { return f.Ready })
	return n
}

// end ends it as an operator does.
func (n *node) end(t *testing.T) {
	select {
	case <-n.process.Ended():
		t.Errorf("the node ended by itself: %v", n.process.State())
	default:
	}
	if err := n.process.End(t, syscall.SIGTERM); err != nil {
		lines := strings.Split(strings.TrimSpace(n.output(t)), "\n")
		t.Errorf("the node's end: %v: %s", err, lines[len(lines)-1])
	}
	n.http.CloseIdleConnections()
	for line := range strings.Lines(n.output(t)) {
		for _, bad := range []string{"DATA RACE", "panic", "fatal error:", canary, bystanderPrefix} {
			if strings.Contains(line, bad) {
				t.Errorf("the node wrote %q, in: %.300s", bad, line)
			}
		}
	}
}

// output is all that it has written.
func (n *node) output(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(n.log)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// ask asks the node's test listener.
func ask[A any](n *node, what string, q any) (a A, err error) {
	body, err := json.Marshal(q)
	if err != nil {
		return a, err
	}
	response, err := n.http.Post("http://"+n.private+"/"+what, "application/json", bytes.NewReader(body))
	if err != nil {
		return a, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		why, err := io.ReadAll(io.LimitReader(response.Body, 1000))
		return a, errors.Join(fmt.Errorf("%s: %s", what, bytes.TrimSpace(why)), err)
	}
	return a, json.NewDecoder(response.Body).Decode(&a)
}

// measure returns the node's figures; its memory is right only after collecting
// garbage.
func (n *node) measure(t testing.TB, collect bool) figures {
	t.Helper()
	f, err := ask[figures](n, "measure", collect)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// until waits for something that happens in the node by itself.
func (n *node) until(t testing.TB, what string, holds func(figures) bool) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		f := n.measure(t, false)
		if holds(f) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("waited %v in vain until %s: %+v", patience, what, f)
		}
	}
}

// topics returns the topics that nsqd has.
func (n *node) topics(t *testing.T) (names []string) {
	t.Helper()
	response, err := n.http.Get("http://" + n.nsqd.HTTPAddr + "/stats?format=json")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var stats struct {
		Topics []struct {
			Name string `json:"topic_name"`
		} `json:"topics"`
	}
	if err := json.NewDecoder(response.Body).Decode(&stats); err != nil {
		t.Fatal(err)
	}
	for _, topic := range stats.Topics {
		names = append(names, topic.Name)
	}
	return names
}
