package web_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/internal/testkit/docs"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web"
	"github.com/entity-sync/entity-sync/web/wire"
)

// shelf is a database whose rows a test puts there.
type shelf struct {
	mu   sync.Mutex
	rows map[string]string // by id; "forbidden" is for nobody
}

func (s *shelf) put(id, row string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rows == nil {
		s.rows = map[string]string{}
	}
	s.rows[id] = row
}

func (s *shelf) fetch(_ context.Context, k shared.EntityKey, secret string) ([][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch row, ok := s.rows[k.ID]; {
	case !ok:
		return nil, shared.ErrNotFound
	case row == "forbidden", secret == mark+"nobody":
		return nil, shared.ErrForbidden
	default:
		return [][]byte{[]byte(strings.ReplaceAll(row, "$secret", secret))}, nil
	}
}

// frame is anything that the server says on v2.
type frame struct {
	Action string          `json:"action"`
	Ref    json.RawMessage `json:"ref"`
	Body   struct {
		Entity, ID, Version, Code, Message string
		Rows                               []json.RawMessage
		Seconds                            int
		Index                              *int
	} `json:"body"`
}

// String is the frame in one line, without what differs from run to run.
func (f frame) String() string {
	s := f.Action
	for _, part := range []string{string(f.Ref), f.Body.Entity, f.Body.ID, f.Body.Code} {
		if part != "" {
			s += " " + part
		}
	}
	if f.Body.Index != nil {
		s += fmt.Sprint(" #", *f.Body.Index)
	}
	for _, row := range f.Body.Rows {
		s += " " + string(row)
	}
	return s
}

func (c *conn) frame() (f frame) {
	c.t.Helper()
	text := c.read()
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		c.t.Fatalf("%s: %v", text, err)
	}
	return f
}

func (c *conn) wantFrame(want string) frame {
	c.t.Helper()
	f := c.frame()
	if f.String() != want {
		c.t.Fatalf("got %q (%s), want %q", f, f.Body.Message, want)
	}
	return f
}

func TestV2(t *testing.T) {
	var db shelf
	db.put("1", `{"n":1,"for":"$secret"}`)
	db.put("2", `{"n":2}`)
	db.put("9", "forbidden")
	s := start(t, web.Config{}, db.fetch)
	c := s.dialV2(t)
	if got := c.Subprotocol(); got != wire.SubprotocolV2 {
		t.Fatalf("the server speaks %q", got)
	}
	c.send(`{"action":"secret","body":"` + mark + `me","ref":1}`)
	c.wantFrame("ack 1")

	c.send(`{"action":"subscribe","ref":"a","body":{"entity":"items","id":"1"}}`)
	c.wantFrame(`ack "a"`)
	first := c.wantFrame(`update items 1 {"n":1,"for":"` + mark + `me"}`)
	if len(first.Body.Version) != 22 {
		t.Errorf("the version is %q", first.Body.Version)
	}

	// A change, a deletion, and a row that is back.
	db.put("1", `{"n":1.5}`)
	s.notify(t, "1")
	second := c.wantFrame(`update items 1 {"n":1.5}`)
	if second.Body.Version == first.Body.Version {
		t.Error("another row has the same version")
	}
	s.notify(t, "1")
	if again := c.wantFrame(`update items 1 {"n":1.5}`); again.Body.Version != second.Body.Version {
		t.Error("the same row has another version")
	}
	db.mu.Lock()
	delete(db.rows, "1")
	db.mu.Unlock()
	s.notify(t, "1")
	c.wantFrame("delete items 1")

	// Several keys at once: each answers for itself, and the rest is live.
	c.send(`{"action":"subscribe","ref":2,"body":[{"entity":"items","id":"2"},{"entity":"nothing","id":"1"},{"entity":"items","id":""}]}`)
	c.wantFrame("error 2 nothing 1 unknown_entity")
	c.wantFrame("error 2 bad_key #2")
	c.wantFrame("ack 2")
	two := c.wantFrame(`update items 2 {"n":2}`)

	// What may not be seen, and what is known already.
	c.send(`{"action":"subscribe","body":{"entity":"items","id":"9"}}`)
	c.wantFrame("ack")
	c.wantFrame("unsubscribed items 9 forbidden")
	c.send(`{"action":"subscribe","body":{"entity":"items","id":"2","version":%q}}`, two.Body.Version)
	c.wantFrame("ack")
	if f := c.wantFrame("current items 2"); f.Body.Version != two.Body.Version {
		t.Error("current has another version than the client")
	}
	c.send(`{"action":"subscribe","body":{"entity":"items","id":"2","version":"no version of ours"}}`)
	c.wantFrame("ack")
	c.wantFrame(`update items 2 {"n":2}`)

	// Without a snapshot there is nothing until a change.
	c.send(`{"action":"subscribe","body":{"entity":"items","id":"3","snapshot":false}}`)
	c.wantFrame("ack")
	db.put("3", "text that is not \"JSON\"")
	s.notify(t, "3")
	c.wantFrame(`update items 3 "text that is not \"JSON\""`)

	c.send(`{"action":"unsubscribe","ref":3,"body":[{"entity":"items","id":"1"},{"entity":"items","id":"3"}]}`)
	c.wantFrame("ack 3")
	s.notify(t, "1")
	s.notify(t, "3")
	c.send(`{"action":"secret","body":"` + mark + `nobody"}`)
	c.wantFrame("ack")
	c.wantFrame("unsubscribed items 2 forbidden")
	s.untilSubscribed(t, 0)
}

// A client that was told of a deletion has no version any more. The one of the rows
// before it is known to be right when they are back.
func TestV2AfterADeletion(t *testing.T) {
	var db shelf
	s := start(t, web.Config{}, db.fetch)
	comeBack := func(version string) *conn {
		c := s.dialV2(t)
		c.send(`{"action":"subscribe","body":{"entity":"items","id":"1","version":%q}}`, version)
		c.wantFrame("ack")
		return c
	}
	db.put("1", `"row"`)
	version := comeBack("").wantFrame(`update items 1 "row"`).Body.Version
	db.mu.Lock()
	delete(db.rows, "1")
	db.mu.Unlock()
	for _, v := range []string{"", version} {
		if f := comeBack(v).wantFrame("delete items 1"); f.Body.Version != "" {
			t.Errorf("a deletion has the version %q", f.Body.Version)
		}
	}
	db.put("1", `"row"`)
	comeBack("").wantFrame(`update items 1 "row"`)
	comeBack(version).wantFrame("current items 1")
}

// Of many keys one is told by its index which are malformed.
func TestV2SaysWhichKeyIsMalformed(t *testing.T) {
	s := start(t, web.Config{}, echo)
	c := s.dialV2(t)
	c.send(`{"action":"subscribe","ref":1,"body":[{"entity":"items","id":""},{"entity":"items","id":"1","snapshot":false},{"entity":"","id":"2"},{"entity":"items","id":"\n"}]}`)
	for _, want := range []string{"error 1 bad_key #0", "error 1 bad_key #2", "error 1 bad_key #3", "ack 1"} {
		c.wantFrame(want)
	}
	s.untilSubscribed(t, 1)
}

func TestV2Refusals(t *testing.T) {
	s := start(t, web.Config{MaxSubscriptions: 2}, echo)
	c := s.dialV2(t)
	many := `{"entity":"items","id":"1","snapshot":false},{"entity":"items","id":"2","snapshot":false}`
	for message, want := range map[string]string{
		``:                             "error bad_json",
		`{`:                            "error bad_json",
		`{} {}`:                        "error bad_json",
		"\x00":                         "error bad_json",
		`[]`:                           "error bad_message",
		`"text"`:                       "error bad_message",
		`null`:                         "error bad_message",
		`{}`:                           "error bad_message",
		`{"action":7}`:                 "error bad_message",
		`{"action":"dance","ref":"x"}`: `error "x" unknown_action`,
		`{"action":"secret","ref":1}`:  "error 1 bad_message",
		`{"action":"secret","body":null,"ref":1}`:                                                   "error 1 bad_message",
		`{"action":"secret","body":7}`:                                                              "error bad_message",
		`{"action":"secret","body":"` + strings.Repeat("x", 5000) + `"}`:                            "error bad_message",
		`{"action":"subscribe","ref":-1.5}`:                                                         "error -1.5 bad_message",
		`{"action":"subscribe","ref":{}}`:                                                           "error bad_message",
		`{"action":"subscribe","ref":"` + strings.Repeat("x", 200) + `"}`:                           "error bad_message",
		`{"action":"subscribe","body":[]}`:                                                          "error bad_message",
		`{"action":"subscribe","body":"items"}`:                                                     "error bad_message",
		`{"action":"subscribe","body":{"entity":"items","id":100}}`:                                 "error bad_message",
		`{"action":"subscribe","body":[{"entity":"items","id":100}]}`:                               "error bad_message",
		`{"action":"unsubscribe","body":7}`:                                                         "error bad_message",
		`{"action":"subscribe","body":{"entity":"nothing","id":"1"}}`:                               "error nothing 1 unknown_entity|ack",
		`{"action":"subscribe","body":{"entity":"a b","id":"1"}}`:                                   "error bad_key #0|ack",
		`{"action":"subscribe","body":{"entity":"items","id":"` + strings.Repeat("x", 300) + `"}}`:  "error bad_key #0|ack",
		`{"action":"subscribe","body":{"entity":"items","id":"\u0000"}}`:                            "error bad_key #0|ack",
		`{"action":"subscribe","body":[` + many + `,{"entity":"items","id":"3","snapshot":false}]}`: "error items 3 too_many_subscriptions|ack",
	} {
		c.send("%s", message)
		for want := range strings.SplitSeq(want, "|") {
			if got := c.frame().String(); got != want {
				t.Errorf("%.80s: got %q, want %q", message, got, want)
			}
		}
	}
}

// A subprotocol that nobody knows is none.
func TestAnUnknownSubprotocolIsTheClassicWire(t *testing.T) {
	s := start(t, web.Config{Snapshot: true}, echo)
	c := s.dialWith(t, http.Header{"Sec-WebSocket-Protocol": {"chat, entity-sync.v9"}})
	if got := c.Subprotocol(); got != "" {
		t.Fatalf("the server speaks %q", got)
	}
	c.subscribe("1")
	c.want(`{"id":"1","for":""}`)
}

// Two wires, one engine: the same change goes to each as it understands it.
func TestBothWiresAtOnce(t *testing.T) {
	s := start(t, web.Config{}, echo)
	classic, modern := s.dial(t), s.dialV2(t)
	classic.subscribe("1")
	modern.send(`{"action":"subscribe","body":{"entity":"items","id":"1","snapshot":false}}`)
	modern.wantFrame("ack")
	s.untilSubscribed(t, 2)
	s.notify(t, "1")
	classic.want(`{"id":"1","for":""}`)
	modern.wantFrame(`update items 1 {"id":"1","for":""}`)
}

// What a client was sent may be out of date while the bus is lost; it is told,
// and told when that is over, after the rows that it had missed.
func TestV2SaysStaleAndFresh(t *testing.T) {
	var db shelf
	db.put("1", "1")
	s := start(t, web.Config{}, db.fetch)
	c, classic := s.dialV2(t), s.dial(t)
	c.send(`{"action":"subscribe","body":{"entity":"items","id":"1"}}`)
	c.wantFrame("ack")
	c.wantFrame("update items 1 1")
	classic.subscribe("1")
	s.untilSubscribed(t, 2)
	for n := 2; n < 5; n++ {
		s.broker.SetDown(true)
		c.wantFrame("stale")
		db.put("1", fmt.Sprint(n))
		s.broker.SetDown(false)
		c.wantFrame(fmt.Sprint("update items 1 ", n))
		c.wantFrame("fresh")
		classic.want(fmt.Sprint(n)) // and nothing else
	}
	s.broker.SetDown(true)
	c.wantFrame("stale")
	s.broker.SetDown(false)
	c.wantFrame("fresh") // nothing had changed
}

// What the document shows a client saying is understood.
func TestTheDocumentsRequestsAreTaken(t *testing.T) {
	s := start(t, web.Config{}, echo)
	c := s.dialV2(t)
	for _, line := range docs.Lines(t, "docs/protocol.md", "json client") {
		c.send("%s", line)
		for f := c.frame(); f.Action != "ack"; f = c.frame() {
			if f.Action != "update" { // of the request before
				t.Fatalf("%s is answered with %v", line, f)
			}
		}
	}
}

// What a client asks that only wants to know whether the node is there.
func TestV2UnsubscribingNothingIsAcknowledged(t *testing.T) {
	var db shelf
	s := start(t, web.Config{}, db.fetch)
	c := s.dialV2(t)
	for i, body := range []string{`{"entity":"","id":""}`, `{"entity":"items","id":"1"}`, `[{"entity":"nothing","id":"1"}]`} {
		c.send(`{"action":"unsubscribe","ref":%d,"body":%s}`, i, body)
		c.wantFrame(fmt.Sprintf("ack %d", i))
	}
}

// What is no row's version confirms nothing, though it can be known what the node
// takes for that of a key without rows, or of one that may not be seen.
func TestV2ConfirmsRowsOnly(t *testing.T) {
	var db shelf
	db.put("1", "forbidden")
	s := start(t, web.Config{}, db.fetch)
	c := s.dialV2(t)
	for _, kind := range []bridge.Kind{bridge.KindDeleted, bridge.KindForbidden} {
		sum := sha256.Sum256([]byte{byte(kind), 0})
		version := bridge.Version(sum[:16])
		c.send(`{"action":"subscribe","ref":1,"body":[{"entity":"items","id":"1","version":%[1]q},{"entity":"items","id":"2","version":%[1]q}]}`, version)
		c.wantFrame("ack 1")
		said := []string{c.frame().String(), c.frame().String()}
		slices.Sort(said)
		if want := []string{"delete items 2", "unsubscribed items 1 forbidden"}; !slices.Equal(said, want) {
			t.Errorf("with the version of kind %d: %q, want %q", kind, said, want)
		}
		c.send(`{"action":"unsubscribe","ref":2,"body":[{"entity":"items","id":"2"}]}`)
		c.wantFrame("ack 2")
	}
}
