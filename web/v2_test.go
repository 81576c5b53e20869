package web_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/internal/testkit/docs"
	"github.com/entity-sync/entity-sync/internal/testkit/socket"
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
	c.Send(`{"action":"secret","body":"` + mark + `me","ref":1}`)
	c.WantReply("ack 1")

	c.Send(`{"action":"subscribe","ref":"a","body":{"entity":"items","id":"1"}}`)
	c.WantReply(`ack "a"`)
	first := c.WantReply(`update items 1 {"n":1,"for":"` + mark + `me"}`)
	if len(first.Version) != 22 {
		t.Errorf("the version is %q", first.Version)
	}

	// A change, a deletion, and a row that is back.
	db.put("1", `{"n":1.5}`)
	s.notify(t, "1")
	second := c.WantReply(`update items 1 {"n":1.5}`)
	if second.Version == first.Version {
		t.Error("another row has the same version")
	}
	s.notify(t, "1")
	if again := c.WantReply(`update items 1 {"n":1.5}`); again.Version != second.Version {
		t.Error("the same row has another version")
	}
	db.mu.Lock()
	delete(db.rows, "1")
	db.mu.Unlock()
	s.notify(t, "1")
	c.WantReply("delete items 1")

	// Several keys at once: each answers for itself, and the rest is live.
	c.Send(`{"action":"subscribe","ref":2,"body":[{"entity":"items","id":"2"},{"entity":"nothing","id":"1"},{"entity":"items","id":""}]}`)
	c.WantReply("error 2 nothing 1 unknown_entity")
	c.WantReply("error 2 bad_key #2")
	c.WantReply("ack 2")
	two := c.WantReply(`update items 2 {"n":2}`)

	// What may not be seen, and what is known already.
	c.Send(`{"action":"subscribe","body":{"entity":"items","id":"9"}}`)
	c.WantReply("ack")
	c.WantReply("unsubscribed items 9 forbidden")
	c.Send(`{"action":"subscribe","body":{"entity":"items","id":"2","version":%q}}`, two.Version)
	c.WantReply("ack")
	if f := c.WantReply("current items 2"); f.Version != two.Version {
		t.Error("current has another version than the client")
	}
	c.Send(`{"action":"subscribe","body":{"entity":"items","id":"2","version":"no version of ours"}}`)
	c.WantReply("ack")
	c.WantReply(`update items 2 {"n":2}`)

	// Without a snapshot there is nothing until a change.
	c.Send(`{"action":"subscribe","body":{"entity":"items","id":"3","snapshot":false}}`)
	c.WantReply("ack")
	db.put("3", "text that is not \"JSON\"")
	s.notify(t, "3")
	c.WantReply(`update items 3 "text that is not \"JSON\""`)

	c.Send(`{"action":"unsubscribe","ref":3,"body":[{"entity":"items","id":"1"},{"entity":"items","id":"3"}]}`)
	c.WantReply("ack 3")
	s.notify(t, "1")
	s.notify(t, "3")
	c.Send(`{"action":"secret","body":"` + mark + `nobody"}`)
	c.WantReply("ack")
	c.WantReply("unsubscribed items 2 forbidden")
	s.untilSubscribed(t, 0)
}

// A client that was told of a deletion has no version any more. The one of the rows
// before it is known to be right when they are back.
func TestV2AfterADeletion(t *testing.T) {
	var db shelf
	s := start(t, web.Config{}, db.fetch)
	comeBack := func(version string) *conn {
		c := s.dialV2(t)
		c.Send(`{"action":"subscribe","body":{"entity":"items","id":"1","version":%q}}`, version)
		c.WantReply("ack")
		return c
	}
	db.put("1", `"row"`)
	version := comeBack("").WantReply(`update items 1 "row"`).Version
	db.mu.Lock()
	delete(db.rows, "1")
	db.mu.Unlock()
	for _, v := range []string{"", version} {
		if f := comeBack(v).WantReply("delete items 1"); f.Version != "" {
			t.Errorf("a deletion has the version %q", f.Version)
		}
	}
	db.put("1", `"row"`)
	comeBack("").WantReply(`update items 1 "row"`)
	comeBack(version).WantReply("current items 1")
}

// Of many keys one is told by its index which are malformed.
func TestV2SaysWhichKeyIsMalformed(t *testing.T) {
	s := start(t, web.Config{}, echo)
	c := s.dialV2(t)
	c.Send(`{"action":"subscribe","ref":1,"body":[{"entity":"items","id":""},{"entity":"items","id":"1","snapshot":false},{"entity":"","id":"2"},{"entity":"items","id":"\n"}]}`)
	for _, want := range []string{"error 1 bad_key #0", "error 1 bad_key #2", "error 1 bad_key #3", "ack 1"} {
		c.WantReply(want)
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
		c.Send("%s", message)
		for want := range strings.SplitSeq(want, "|") {
			if got := socket.Line(c.Reply()); got != want {
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
	c.Want(`{"id":"1","for":""}`)
}

// Two wires, one engine: the same change goes to each as it understands it.
func TestBothWiresAtOnce(t *testing.T) {
	s := start(t, web.Config{}, echo)
	classic, modern := s.dial(t), s.dialV2(t)
	classic.subscribe("1")
	modern.Send(`{"action":"subscribe","body":{"entity":"items","id":"1","snapshot":false}}`)
	modern.WantReply("ack")
	s.untilSubscribed(t, 2)
	s.notify(t, "1")
	classic.Want(`{"id":"1","for":""}`)
	modern.WantReply(`update items 1 {"id":"1","for":""}`)
}

// What a client was sent may be out of date while the bus is lost; it is told,
// and told when that is over, after the rows that it had missed.
func TestV2SaysStaleAndFresh(t *testing.T) {
	var db shelf
	db.put("1", "1")
	s := start(t, web.Config{}, db.fetch)
	c, classic := s.dialV2(t), s.dial(t)
	c.Send(`{"action":"subscribe","body":{"entity":"items","id":"1"}}`)
	c.WantReply("ack")
	c.WantReply("update items 1 1")
	classic.subscribe("1")
	s.untilSubscribed(t, 2)
	for n := 2; n < 5; n++ {
		s.broker.SetDown(true)
		c.WantReply("stale")
		db.put("1", fmt.Sprint(n))
		s.broker.SetDown(false)
		c.WantReply(fmt.Sprint("update items 1 ", n))
		c.WantReply("fresh")
		classic.Want(fmt.Sprint(n)) // and nothing else
	}
	s.broker.SetDown(true)
	c.WantReply("stale")
	s.broker.SetDown(false)
	c.WantReply("fresh") // nothing had changed
}

// What the document shows a client saying is understood.
func TestTheDocumentsRequestsAreTaken(t *testing.T) {
	s := start(t, web.Config{}, echo)
	s.channel(t, "news", open)
	s.channel(t, "weather", open)
	c := s.dialV2(t)
	for _, line := range docs.Lines(t, "docs/protocol.md", "json client") {
		c.Send("%s", line)
		for f := c.Reply(); f.Action != "ack"; f = c.Reply() {
			if f.Action != "update" && f.Action != "event" && f.Action != "gap" { // of the request before
				t.Fatalf("%s is answered with %v", line, socket.Line(f))
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
		c.Send(`{"action":"unsubscribe","ref":%d,"body":%s}`, i, body)
		c.WantReply(fmt.Sprintf("ack %d", i))
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
		c.Send(`{"action":"subscribe","ref":1,"body":[{"entity":"items","id":"1","version":%[1]q},{"entity":"items","id":"2","version":%[1]q}]}`, version)
		c.WantReply("ack 1")
		said := []string{socket.Line(c.Reply()), socket.Line(c.Reply())}
		slices.Sort(said)
		if want := []string{"delete items 2", "unsubscribed items 1 forbidden"}; !slices.Equal(said, want) {
			t.Errorf("with the version of kind %d: %q, want %q", kind, said, want)
		}
		c.Send(`{"action":"unsubscribe","ref":2,"body":[{"entity":"items","id":"2"}]}`)
		c.WantReply("ack 2")
	}
}
