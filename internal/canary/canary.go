// Package canary is for tests. It marks their secrets, so that a secret that gets out is
// found in the tests' output: `make test` keeps all of that (command gotest) and searches
// it (command search).
package canary

import (
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
)

// Mark is in every secret of a test. It survives every way of quoting a text.
const Mark = "canary-6b1f9ed03c"

// marks are the texts that a search looks for. The board's page knows the board's secrets,
// so those have no mark.
var marks = []string{Mark, "guest-secret", "manager-secret"}

// Place is where tests write.
type Place string

// The places. A search fails unless it finds the decoy of each: one that is missing shows that
// not everything was searched.
const (
	TestLog       Place = "test-log"
	DefaultLogger Place = "default-logger"
	BridgeLogger  Place = "bridge-logger"
	WebLogger     Place = "web-logger"
	Bus           Place = "bus"         // within a process
	NSQ           Place = "nsq"         // on a real nsqd
	NSQLog        Place = "nsq-log"     // what nsqd itself says
	NSQData       Place = "nsq-data"    // nsqd's files
	Node          Place = "node"        // a node's process
	Database      Place = "database-pg" // PostgreSQL's log
	Browser       Place = "browser"     // a page's console
)

// Places returns all of them.
func Places() []Place {
	return []Place{TestLog, DefaultLogger, BridgeLogger, WebLogger, Bus, NSQ, NSQLog, NSQData, Node, Database, Browser}
}

// Decoy is a text that a test writes to a place, as a secret that gets out would be written.
func Decoy(p Place) string { return "decoy-" + string(p) + "-a71c" }

// Tests without a Config.Logger log to the default logger.
func init() { slog.SetLogLoggerLevel(slog.LevelDebug) }

// Logger returns a logger that writes all levels to all of the writers. If each of those is
// io.Discard it formats nothing, because that would show in a benchmark's figures.
func Logger(to ...io.Writer) *slog.Logger {
	if !slices.ContainsFunc(to, func(w io.Writer) bool { return w != io.Discard }) {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(io.MultiWriter(to...), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Output is the test's output. A benchmark has none, because it would show in the figures.
func Output(t testing.TB) io.Writer {
	if _, ok := t.(*testing.B); ok {
		return io.Discard
	}
	o := &output{to: t.Output()}
	t.Cleanup(o.end)
	return o
}

// output is a test's output while the test runs, and standard error after that. A node whose
// Close was cut off logs for a moment longer, which package testing takes for a race.
type output struct {
	mu sync.Mutex
	to io.Writer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.to.Write(b)
}

func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.to = os.Stderr
}

// Watch is for a test that writes too much to be kept: what it writes is searched at
// once, and a secret in it fails the test. Each write is a line.
func Watch(t testing.TB) io.Writer { return watcher{t} }

type watcher struct{ t testing.TB }

func (w watcher) Write(line []byte) (int, error) {
	if shows(line) {
		w.t.Errorf("a secret got out: %s", line)
	}
	return len(line), nil
}
