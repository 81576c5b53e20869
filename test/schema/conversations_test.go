package schema

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/internal/testkit/socket"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/wire"
)

// speaker is a client that the test plays, with a tap before its node.
type speaker struct {
	*socket.Conn
	t    *testing.T
	tap  *tap
	refs int
}

func speak(t *testing.T, p *tap) *speaker { return &speaker{socket.DialV2(t, p.url()), t, p, 0} }

// say says what the schema takes, and waits until the node has acted on it.
func (s *speaker) say(text string) {
	s.t.Helper()
	s.Send("%s", text)
	s.refs++
	s.Send(`{"action":"unsubscribe","ref":"done %d","body":{}}`, s.refs)
	s.hear(func(r wire.Reply) bool { return string(r.Ref) == fmt.Sprintf(`"done %d"`, s.refs) })
}

// provoke says what the node refuses with a code.
func (s *speaker) provoke(text string, code wire.Code) {
	s.t.Helper()
	s.tap.record.ignore(text)
	s.Send("%s", text)
	s.hear(func(r wire.Reply) bool { return r.Code == code })
}

// hear reads up to a reply that is as wanted. Messages of the application are passed over.
func (s *speaker) hear(wanted func(wire.Reply) bool) wire.Reply {
	s.t.Helper()
	for {
		if r, ok := wire.ReadReply([]byte(s.Read())); ok && wanted(r) {
			return r
		}
	}
}

func (s *speaker) until(action wire.Action) wire.Reply {
	s.t.Helper()
	return s.hear(func(r wire.Reply) bool { return r.Action == action })
}

const cloudEvent = `"specversion":"1.0","id":"1","source":"/s","type":"t"`

// requests are such as every part of the schema for clients describes.
var requests = []string{
	`{"action":"secret","ref":1,"body":"ann"}`,
	`{"action":"subscribe","ref":"two","body":{"entity":"items","id":"1"}}`,
	`{"action":"subscribe","body":[{"entity":"items","id":"1","version":"old","snapshot":true},{"entity":"items","id":"none","version":null,"snapshot":null}]}`,
	`{"action":"subscribe","body":{"topic":"news"}}`,
	`{"action":"subscribe","body":[{"topic":"*","exact":null,"after":null},{"topic":"news.uk","exact":true,"after":"1"}]}`,
	`{"action":"publish","body":{"topic":"news.uk","data":{"title":"rain"}}}`,
	`{"action":"publish","body":{"topic":["news.uk","news.de"],"echo":true}}`,
	`{"action":"publish","body":{"topic":"news","event":{` + cloudEvent + `},"echo":null}}`,
	`{"action":"publish","body":{"topic":"news","event":{` + cloudEvent + `,"time":1,"data":null,"data_base64":"aGk=","extension":{}}}}`,
	`{"action":"publish","body":{"topic":"news","event":{` + cloudEvent + `,"time":null,"data":1,"data_base64":null,"datacontenttype":null,"dataschema":null,"subject":null}}}`,
	`{"action":"publish","body":{"topic":"news","event":{` + cloudEvent + `,"time":"2025-11-30T08:06:40.5+01:00","data":1,"datacontenttype":"application/json","dataschema":"/d","subject":"s"}}}`,
	`{"action":"unsubscribe","body":{"topic":"news.uk"}}`,
	`{"action":"unsubscribe","body":[{"topic":null},{"entity":null,"id":null},{"entity":"items","id":"1"},null]}`,
	`{"hello":"node"}`, `{"Action":"none"}`, `{"action":null}`, `{"action":""}`,
}

// refused are messages that the node refuses, and the codes that it answers with.
var refused = map[wire.Code]string{
	wire.CodeBadJSON:       `{"action":`,
	wire.CodeBadMessage:    `{"action":"subscribe","ref":1,"body":1}`,
	wire.CodeUnknownAction: `{"action":"unheard-of","ref":1}`,
	wire.CodeBadKey:        `{"action":"subscribe","ref":1,"body":{"entity":"items","id":""}}`,
	wire.CodeBadTopic:      `{"action":"subscribe","ref":1,"body":{"topic":""}}`,
	wire.CodeBadEvent:      `{"action":"publish","ref":1,"body":{"topic":"news","event":{}}}`,
}

// converse has the test play clients that hear all that a node says, and that say all that a
// client may.
func converse(t *testing.T, r *record) {
	n := start(t, open())
	p := listen(t, n.Node, r)
	s := speak(t, p)
	for _, text := range requests {
		s.say(text)
	}
	for code, text := range refused {
		s.provoke(text, code)
	}
	for _, topic := range []string{"unknown", "silent"} {
		s.say(`{"action":"publish","body":{"topic":"` + topic + `"}}`)
	}
	s.say(`{"action":"subscribe","body":{"entity":"unknown","id":"1"}}`)
	s.say(`{"action":"publish","body":{"topic":"news","data":"` + strings.Repeat("x", shared.MaxEventBytes) + `"}}`)

	s = speak(t, p)
	s.say(`{"action":"subscribe","body":{"entity":"items","id":"hidden"}}`)
	s.Send(`{"action":"subscribe","body":{"entity":"items","id":"1"}}`)
	version := s.until(wire.ActionUpdate).Version
	s.say(`{"action":"unsubscribe","body":{"entity":"items","id":"1"}}`)
	s.Send(`{"action":"subscribe","body":{"entity":"items","id":"1","version":%q}}`, version)
	s.until(wire.ActionCurrent)
	s.Send(`{"action":"subscribe","body":{"entity":"items","id":"none"}}`)
	s.until(wire.ActionDelete)
	s.Send(`{"action":"secret","body":"short"}`)
	s.until(wire.ActionExpiring)
	s.say(`{"action":"secret","body":"ann"}`)
	missEvents(t, n, p)
	loseTheBus(t, n, p)
	beRefused(t, p)
}

// missEvents asks for more events than may wait for a client.
func missEvents(t *testing.T, n *node, p *tap) {
	t.Helper()
	s := speak(t, p)
	s.say(`{"action":"subscribe","body":{"topic":"news"}}`)
	var first shared.Event
	for i := range 5 {
		if err := n.Publish(t.Context(), "news", i); err != nil {
			t.Fatal(err)
		}
		r := s.until(wire.ActionEvent)
		if i > 0 {
			continue
		}
		if err := json.Unmarshal(r.Event, &first); err != nil {
			t.Fatal(err)
		}
	}
	s = speak(t, p)
	s.Send(`{"action":"subscribe","body":[{"topic":"news","after":%q},{"topic":"news.uk","after":"unknown"}]}`, first.ID())
	s.hear(func(r wire.Reply) bool { return r.Action == wire.ActionGap && r.Missed > 0 })
}

func loseTheBus(t *testing.T, n *node, p *tap) {
	t.Helper()
	s := speak(t, p)
	s.Send(`{"action":"subscribe","body":[{"entity":"items","id":"1"},{"topic":"silent"}]}`)
	s.until(wire.ActionUpdate)
	n.bus.SetDown(true)
	s.until(wire.ActionStale)
	s.say(`{"action":"publish","ref":1,"body":{"topic":"news"}}`)
	n.bus.SetDown(false)
	s.until(wire.ActionFresh)
}

// beRefused says secrets that the application refuses, or whose clients it refuses everything.
func beRefused(t *testing.T, p *tap) {
	t.Helper()
	for secret := range refusals {
		s := speak(t, p)
		s.say(`{"action":"secret","ref":1,"body":"no ` + secret + `"}`)
		s.say(`{"action":"subscribe","body":[{"entity":"items","id":"1"},{"topic":"news"}]}`)
		s.say(`{"action":"secret","ref":1,"body":"` + secret + `"}`)
		s.say(`{"action":"subscribe","ref":1,"body":[{"entity":"items","id":"1"},{"topic":"news"}]}`)
		s.say(`{"action":"publish","ref":1,"body":{"topic":"news"}}`)
	}
}

// meetLimits has the test play clients of nodes that take little.
func meetLimits(t *testing.T, r *record) {
	full := open()
	full.Web.MaxSubscriptions = 1
	s := speak(t, listen(t, start(t, full).Node, r))
	s.say(`{"action":"subscribe","body":[{"entity":"items","id":"1"},{"entity":"items","id":"2"},{"topic":"news"}]}`)

	slow := open()
	slow.Web.MessageRate = 10
	s = speak(t, listen(t, start(t, slow).Node, r))
	for range 150 { // a hundred at once
		s.Send(`{}`)
	}
	s.hear(func(r wire.Reply) bool { return r.Code == wire.CodeRateLimited })

	settled := open()
	settled.VerifySecret = nil
	settled.Authenticate = func(*http.Request) (string, time.Time, error) { return "ann", time.Time{}, nil }
	s = speak(t, listen(t, start(t, settled).Node, r))
	s.say(`{"action":"secret","ref":1,"body":"bob"}`)
}
