package es_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/docs"
	"github.com/entity-sync/entity-sync/internal/testkit/nodetest"
	"github.com/entity-sync/entity-sync/internal/testkit/socket"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/wire"
)

// A key's id, and a word of its rows, as they are in no line of the debug level.
const (
	tracedID  = "id-of-nobodys-business"
	tracedRow = "row-of-nobodys-business"
)

// traced is a node that logs at the debug level, with one client.
type traced struct {
	*nodetest.Node
	ws  *socket.Conn
	log *testkit.Buffer
}

// errNoPrices is what a database says that is down, which quotes what it was asked.
type errNoPrices struct{ text string }

func (e errNoPrices) Error() string { return e.text }

func startTraced(t *testing.T, subprotocols ...string) *traced {
	t.Helper()
	n := &traced{log: &testkit.Buffer{}}
	n.Node = nodetest.Start(t, es.Config{Logger: canary.Logger(n.log, canary.Output(t))})
	for entity, failure := range map[shared.EntityType]func(shared.EntityKey, string) error{
		"items":   nil,
		"gone":    func(shared.EntityKey, string) error { return shared.ErrNotFound },
		"reports": func(key shared.EntityKey, _ string) error { return fmt.Errorf("%s: %w", key.ID, shared.ErrForbidden) },
		"prices": func(key shared.EntityKey, secret string) error {
			return fmt.Errorf("reading: %w", errNoPrices{"no row for " + key.ID + " and " + secret})
		},
	} {
		err := es.Register(n.EntitySync, entity, func(_ context.Context, key shared.EntityKey, secret string) (map[string]string, error) {
			if failure != nil {
				return nil, failure(key, secret)
			}
			return map[string]string{"name": tracedRow}, nil
		}, es.WithRetry(time.Hour, time.Hour))
		if err != nil {
			t.Fatal(err)
		}
	}
	n.ws = socket.Dial(t, n.URL, subprotocols...)
	n.ws.Secret(mark)
	return n
}

const mark = canary.Mark

func (n *traced) subscribe(t *testing.T, entity string) {
	t.Helper()
	n.ws.Send(`{"action":"subscribe","body":{"entity":%q,"id":%q,"snapshot":true}}`, entity, tracedID)
}

// until waits for a line that has all of these in it, and returns it.
func (n *traced) until(t *testing.T, parts ...string) string {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		log := n.log.String()
		for line := range strings.Lines(log) {
			if hasAll(line, parts) {
				return line
			}
		}
		if time.Now().After(end) {
			t.Fatalf("no line has %q:\n%s", parts, log)
		}
	}
}

func hasAll(line string, parts []string) bool {
	for _, part := range parts {
		if !strings.Contains(line, part) {
			return false
		}
	}
	return true
}

// follow has the client do what the page about troubles shows.
func (n *traced) follow(t *testing.T) {
	t.Helper()
	n.subscribe(t, "items")
	n.until(t, "msg=fetched", "entity=items", "cause=subscribed", "outcome=rows")
	if err := n.Notify(t.Context(), shared.EntityKey{Entity: "items", ID: tracedID}); err != nil {
		t.Fatal(err)
	}
	n.until(t, "msg=fetched", "entity=items", "cause=changed", "outcome=rows")
	n.subscribe(t, "gone")
	n.until(t, "msg=fetched", "entity=gone", "outcome=not_found")
	n.subscribe(t, "reports")
	n.until(t, "msg=fetched", "entity=reports", "outcome=forbidden")
	n.subscribe(t, "prices")
	n.until(t, "msg=fetched", "entity=prices", "outcome=failed")
	n.subscribe(t, "orders")
	n.until(t, "code=unknown_entity")
	response, err := http.Get(n.URL)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if err := n.Disconnect(t.Context(), mark); err != nil {
		t.Fatal(err)
	}
	n.until(t, "msg=disconnected")
}

// At the debug level each step has a line, on both wires, and none has an id, a secret
// or a row in it. The one line with an id is the one of a fetch that failed.
func TestEachStepIsLoggedAndNothingElse(t *testing.T) {
	for wire, subprotocols := range map[string][]string{wire.SubprotocolV2: {wire.SubprotocolV2}, "classic": nil} {
		t.Run(wire, func(t *testing.T) {
			n := startTraced(t, subprotocols...)
			n.follow(t)
			log := n.log.String()
			for line := range strings.Lines(log) {
				if strings.Contains(line, mark) || strings.Contains(line, tracedRow) ||
					strings.Contains(line, tracedID) && !strings.Contains(line, `msg="fetch failed"`) {
					t.Errorf("an id, a secret or a row is in it: %s", line)
				}
			}
			for _, want := range [][]string{
				{"msg=connected", "session=1", "wire=" + wire},
				{"msg=subscribed", "session=1", "entity=items", "snapshot=true"},
				{"msg=fetched", "session=1", "entity=items", "watchers=1", "rows=1", "bytes="},
				{"outcome=failed", "error=es_test.errNoPrices"},
				{`msg="refusing a client's message"`, "session=1", "code=unknown_entity"},
				{`msg="sending a client away"`, "session=1", "close_code=4410"},
				{"msg=disconnected", "session=1", `cause="it was told to go"`},
			} {
				n.until(t, want...)
			}
			if strings.Contains(log, "entity=orders") {
				t.Error("a type that only the client knows of is named")
			}
		})
	}
}

// Of a client's refused messages ten are warnings; at the debug level there are all.
func TestEachRefusalIsLogged(t *testing.T) {
	n := startTraced(t, wire.SubprotocolV2)
	const refused = 25
	for range refused {
		n.ws.Send(`{"action":%q}`, tracedID)
	}
	n.until(t, "code=unknown_action", fmt.Sprint("so_far=", refused))
	log := n.log.String()
	warnings, all := strings.Count(log, `level=WARN msg="refusing a client's message"`), strings.Count(log, "code=unknown_action")
	if warnings != 10 || all != refused {
		t.Errorf("%d warnings and %d lines, want 10 and %d", warnings, all, refused)
	}
}

// A client whose subscription Authorize ends later, and one that goes by itself.
func TestTheEndsOfSubscriptionsAndSessionsAreLogged(t *testing.T) {
	log := &testkit.Buffer{}
	n := &traced{log: log, Node: nodetest.Start(t, es.Config{Logger: canary.Logger(log, canary.Output(t)), Authorize: func(_ context.Context, a shared.AccessRequest) error {
		if a.Secret.Reveal() != mark {
			return errors.Join(shared.ErrForbidden, errors.New(a.Key.ID))
		}
		return nil
	}})}
	if err := es.Register(n.EntitySync, "items", func(context.Context, shared.EntityKey, string) (string, error) { return tracedRow, nil }); err != nil {
		t.Fatal(err)
	}
	n.ws = socket.DialV2(t, n.URL)
	n.ws.Secret(mark)
	n.subscribe(t, "items")
	n.ws.Secret(mark + " another")
	n.until(t, "level=DEBUG msg=unsubscribed session=1 entity=items code=forbidden")
	n.subscribe(t, "items")
	n.until(t, `msg="refusing a client's message" session=1 code=forbidden`, "entity=items")
	if err := n.ws.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(1000, tracedID)); err != nil {
		t.Fatal(err)
	}
	n.until(t, `level=DEBUG msg=disconnected session=1 cause="the client closed with code 1000"`)
	if got := log.String(); strings.Contains(got, tracedID) || strings.Contains(got, mark) || strings.Contains(got, tracedRow) {
		t.Errorf("an id, a secret or a row got out:\n%s", got)
	}
}

// What differs from one run to another in a line of the log.
var varies = regexp.MustCompile(`time=\S+|took=\S+|retry_in=\S+|client=\S+|bytes=\d+|in_a_row=\d+| id=\S+|error="reading: [^"]*"`)

// shape is a line without what varies.
func shape(line string) string {
	return varies.ReplaceAllStringFunc(strings.TrimSpace(line), func(s string) string { return s[:strings.Index(s, "=")+1] })
}

// What docs/troubleshooting.md shows of a log is what a node writes, line by line.
func TestTheLogThatThePageShows(t *testing.T) {
	n := startTraced(t, wire.SubprotocolV2)
	n.follow(t)
	written := map[string]bool{}
	for line := range strings.Lines(n.log.String()) {
		if !strings.Contains(line, "subscribed on the bus") && !strings.Contains(line, "no NSQAddr") {
			written[strings.ReplaceAll(shape(line), "es_test.errNoPrices", "*pgconn.ConnectError")] = false
		}
	}
	for _, line := range docs.Lines(t, "docs/troubleshooting.md", "log") {
		if _, is := written[shape(line)]; !is {
			t.Errorf("no node writes this: %s", line)
		}
		written[shape(line)] = true
	}
	for line, shown := range written {
		if !shown {
			t.Errorf("the page does not show: %s", line)
		}
	}
}
