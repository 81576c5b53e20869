package web_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/entity-sync/entity-sync/bridge/events"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web"
	"github.com/entity-sync/entity-sync/web/wire"
)

// channel registers a channel on a node.
func (s *server) channel(t testing.TB, name string, c events.Channel) {
	t.Helper()
	if err := s.bridge.Events().Register(name, c); err != nil {
		t.Fatal(err)
	}
}

// publish publishes an event with some data from a node.
func (s *server) publish(t testing.TB, topic shared.Topic, data string) {
	t.Helper()
	hub := s.bridge.Events()
	e, err := hub.NewEvent(topic, json.RawMessage(data))
	if err == nil {
		err = hub.Publish(t.Context(), events.Publication{Topics: []shared.Topic{topic}, Event: e})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// open is the rule of a channel for everybody.
var open = events.Channel{Public: true, ClientsPublish: true}

// Cases A1, A2, A7, D4, D5 and D7.
func TestTopics(t *testing.T) {
	s := start(t, web.Config{}, echo)
	s.channel(t, "news", open)
	s.channel(t, "x", open)
	s.channel(t, "y", open)
	a, b := s.dialV2(t), s.dialV2(t)
	a.Send(`{"action":"subscribe","ref":1,"body":{"topic":"news"}}`)
	a.WantReply("ack 1")
	a.Send(`{"action":"subscribe","ref":2,"body":[{"topic":"news.uk"},{"entity":"items","id":"1"},{"topic":"x","exact":true}]}`)
	a.WantReply("ack 2")
	a.WantReply(`update items 1 {"id":"1","for":""}`)
	b.Send(`{"action":"subscribe","ref":1,"body":{"topic":"y"}}`)
	b.WantReply("ack 1")

	s.publish(t, "news.uk.london", `{"title":"fog"}`)
	a.WantReply(`event news.uk.london [news.uk news] {"title":"fog"}`)
	b.Send(`{"action":"publish","ref":2,"body":{"topic":["x","y.z"],"data":[1]}}`)
	b.Until("the event", func(r wire.Reply) bool { return r.Action == wire.ActionEvent && r.Topic == "y.z" }) // before or after the ack
	a.WantReply("event x [x] [1]")
	s.publish(t, "x.below", `1`) // not for who wants x alone
	s.publish(t, "news", `2`)
	a.WantReply("event news [news] 2")

	a.Send(`{"action":"unsubscribe","ref":3,"body":[{"topic":"news"},{"topic":"never"},{"topic":""}]}`)
	a.WantReply("ack 3")
	s.publish(t, "news", `3`)
	s.publish(t, "news.uk", `4`)
	a.WantReply("event news.uk [news.uk] 4")
}

// Cases A4 and A6: an event is refused, or delivered as it came.
func TestAClientsOwnEvent(t *testing.T) {
	s := start(t, web.Config{}, echo)
	s.channel(t, "x", open)
	c, other := s.dialV2(t), s.dialV2(t)
	other.Send(`{"action":"subscribe","body":{"topic":"x"}}`)
	other.WantReply("ack")
	const event = `{"specversion":"1.0","id":"1","source":"/s","type":"t","meta":{"a":[null]},"data":"d","n":1.50}`
	c.Send(`{"action":"publish","ref":1,"body":{"topic":"x","event":%s}}`, event)
	c.WantReply("ack 1")
	if r := other.WantReply(`event x [x] "d"`); string(r.Event) != event {
		t.Errorf("it came as %s", r.Event)
	}
	for _, member := range []string{`"specversion":"1.0"`, `"id":"1"`, `"source":"/s"`, `"type":"t"`} {
		name, _, _ := strings.Cut(member, ":")
		for _, instead := range []string{`"other":1`, name + `:""`, name + `:null`} {
			c.Send(`{"action":"publish","ref":2,"body":{"topic":"x","event":%s}}`, strings.Replace(event, member, instead, 1))
			c.WantReply("error 2 x bad_event")
		}
	}
	c.Send(`{"action":"publish","ref":3,"body":{"topic":"x","event":%s}}`, strings.Replace(event, `"d"`, `"`+strings.Repeat("d", 30<<10)+`"`, 1))
	c.WantReply("ack 3")
	other.Until("the large event", func(r wire.Reply) bool { return r.Action == wire.ActionEvent && len(r.Event) > 30<<10 })
}

// Whatever a client says of topics that is wrong has a code, and the session goes on.
func TestWhatIsRefusedOfTopics(t *testing.T) {
	s := start(t, web.Config{MaxMessageBytes: 64 << 10}, echo)
	s.channel(t, "x", open)
	s.channel(t, "closed", events.Channel{})
	deep := strings.Repeat("x.", shared.MaxTopicSegments) + "x"
	long := "x." + strings.Repeat("l", shared.MaxTopicBytes-1)
	for _, c := range []struct{ message, want string }{
		{`{"action":"subscribe","ref":1,"body":{"topic":"y"}}`, "error 1 y unknown_topic"},
		{`{"action":"subscribe","ref":1,"body":{"topic":""}}`, "error 1 bad_topic #0"},
		{`{"action":"subscribe","ref":1,"body":{"topic":"x..y"}}`, "error 1 bad_topic #0"},
		{`{"action":"subscribe","ref":1,"body":{"topic":"x.*"}}`, "error 1 bad_topic #0"},
		{`{"action":"subscribe","ref":1,"body":{"topic":"x\u0000"}}`, "error 1 bad_topic #0"},
		{`{"action":"subscribe","ref":1,"body":{"topic":"x\ud800"}}`, "error 1 bad_topic #0"},
		{`{"action":"subscribe","ref":1,"body":{"topic":"` + deep + `"}}`, "error 1 bad_topic #0"},
		{`{"action":"subscribe","ref":1,"body":{"topic":"` + long + `"}}`, "error 1 bad_topic #0"},
		{`{"action":"subscribe","ref":1,"body":{"topic":"closed"}}`, "error 1 closed forbidden"},
		{`{"action":"subscribe","ref":1,"body":{"topic":"*"}}`, "error 1 * forbidden"},
		{`{"action":"publish","ref":1,"body":{"topic":"*","data":1}}`, "error 1 bad_topic #0"},
		{`{"action":"publish","ref":1,"body":{"topic":["x","y"],"data":1}}`, "error 1 y unknown_topic"},
		{`{"action":"publish","ref":1,"body":{"topic":["x",""],"data":1}}`, "error 1 bad_topic #1"},
		{`{"action":"publish","ref":1,"body":{"topic":["x","x.y","x.y"],"data":1}}`, "error 1 bad_topic #2"},
		{`{"action":"publish","ref":1,"body":{"topic":"closed","data":1}}`, "error 1 closed forbidden"},
		{`{"action":"publish","ref":1,"body":{"topic":"x","event":1}}`, "error 1 x bad_event"},
		{`{"action":"publish","ref":1,"body":{"topic":"x","event":{}}}`, "error 1 x bad_event"},
		{`{"action":"publish","ref":1,"body":{"topic":"x","data":"` + strings.Repeat("d", shared.MaxEventBytes) + `"}}`, "error 1 x too_large"},
	} {
		conn := s.dialV2(t)
		conn.Send("%s", c.message)
		if conn.WantReply(c.want); strings.Contains(c.message, `"subscribe"`) {
			conn.WantReply("ack 1")
		}
		conn.Send(`{"action":"unsubscribe","ref":"still there","body":{"topic":"x"}}`)
		conn.WantReply(`ack "still there"`)
	}
	for _, body := range []string{
		`{"topic":1}`, `{"topic":"x","entity":"items","id":"1"}`, `{"topic":"x","topic":"y"}`, `{"Topic":"x"}`, `{"topic":"x","exact":1}`, `{"topic":"x","after":1}`, `[{"topic":"x"},1]`,
	} {
		conn := s.dialV2(t)
		conn.Send(`{"action":"subscribe","ref":1,"body":%s}`, body)
		conn.WantReply("error 1 bad_message")
	}
	for _, body := range []string{
		`1`, `[]`, `{}`, `{"data":1}`, `{"topic":"x","data":1,"event":{}}`, `{"topic":1,"data":1}`, `{"topic":[1],"data":1}`, `{"topic":[],"data":1}`, `{"topic":[` + strings.Repeat(`"x",`, shared.MaxEventTopics) + `"x"],"data":1}`, `{"topic":"x","data":1,"echo":1}`, `{"topic":"x","data":1,"data":2}`, `{"topic":"x","Data":1}`,
	} {
		conn := s.dialV2(t)
		conn.Send(`{"action":"publish","ref":1,"body":%s}`, body)
		conn.WantReply("error 1 bad_message")
	}
}

// A malformed key or topic may be as long as a message, and is not sent back, not even where a
// secret is needed first.
func TestWhatIsMalformedIsNotSentBack(t *testing.T) {
	s := start(t, web.Config{RequireSecret: true, SecretTimeout: patience}, echo)
	s.channel(t, "x", open)
	c := s.dialV2(t)
	c.Send(`{"action":"subscribe","ref":1,"body":[{"entity":"items","id":""},{"topic":"x..y"},{"entity":"items","id":"1"},{"topic":"x"}]}`)
	for _, want := range []string{"error 1 bad_key #0", "error 1 bad_topic #1", "error 1 items 1 unauthenticated", "error 1 x unauthenticated", "ack 1"} {
		c.WantReply(want)
	}
	c.Send(`{"action":"publish","ref":2,"body":{"topic":["x..y","x"]}}`)
	c.WantReply("error 2 bad_topic #0")
	c.Send(`{"action":"publish","ref":3,"body":{"topic":"x"}}`)
	c.WantReply("error 3 x unauthenticated")
}

func TestAPublisherNeedNotHearItself(t *testing.T) {
	s := start(t, web.Config{}, echo)
	s.channel(t, "x", open)
	c, other := s.dialV2(t), s.dialV2(t)
	for _, conn := range []*conn{c, other} {
		conn.Send(`{"action":"subscribe","body":{"topic":"x"}}`)
		conn.WantReply("ack")
	}
	c.Send(`{"action":"publish","ref":1,"body":{"topic":"x","data":1,"echo":false}}`)
	c.WantReply("ack 1")
	other.WantReply("event x [x] 1")
	other.Send(`{"action":"publish","ref":2,"body":{"topic":"x","echo":false}}`)
	other.WantReply("ack 2")
	c.WantReply("event x [x]")
}

// Who may hear and say what is for the application to decide, but for what is public; and it is
// asked again when the client is another.
func TestRightsOfTopics(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	s := start(t, web.Config{Authorize: func(_ context.Context, a shared.AccessRequest) error {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, fmt.Sprint(a.Action, " ", a.Topic, " ", strings.TrimPrefix(a.Secret.Reveal(), mark), " ", string(a.Event.Data())))
		if who := strings.TrimPrefix(a.Secret.Reveal(), mark); who != "" && a.Topic == shared.Topic("private."+who) {
			return nil
		}
		return shared.ErrForbidden
	}}, echo)
	s.channel(t, "public", open)
	s.channel(t, "private", events.Channel{ClientsPublish: true})
	c := s.dialV2(t)
	c.Send(`{"action":"secret","body":"%sann"}`, mark)
	c.WantReply("ack")
	c.Send(`{"action":"subscribe","ref":1,"body":[{"topic":"public"},{"topic":"private.ann"},{"topic":"private.bob"},{"topic":"*"}]}`)
	c.WantReply("error 1 private.bob forbidden")
	c.WantReply("error 1 * forbidden")
	c.WantReply("ack 1")
	c.Send(`{"action":"publish","ref":2,"body":{"topic":"private.bob","data":7}}`)
	c.WantReply("error 2 private.bob forbidden")
	c.Send(`{"action":"secret","ref":3,"body":"%sbob"}`, mark)
	c.WantReply("unsubscribed private.ann forbidden")
	c.WantReply("ack 3")
	s.publish(t, "private.ann", "1")
	s.publish(t, "public", "2")
	c.WantReply("event public [public] 2")
	c.Send(`{"action":"publish","ref":4,"body":{"topic":"private.bob","data":8}}`)
	c.WantReply("ack 4")
	mu.Lock()
	defer mu.Unlock()
	want := []string{
		"subscribe private.ann ann ", "subscribe private.bob ann ", "subscribe * ann ", "publish private.bob ann 7",
		"subscribe private.ann bob ", "publish private.bob bob 8",
	}
	if fmt.Sprint(asked) != fmt.Sprint(want) {
		t.Errorf("the application was asked\n%q, want\n%q", asked, want)
	}
}

// Keys and topics of one client count together.
func TestKeysAndTopicsCountTogether(t *testing.T) {
	s := start(t, web.Config{MaxSubscriptions: 2}, echo)
	s.channel(t, "x", open)
	c := s.dialV2(t)
	c.Send(`{"action":"subscribe","ref":1,"body":[{"topic":"x"},{"entity":"items","id":"1","snapshot":false},{"topic":"x.y"},{"entity":"items","id":"2"},{"topic":"x"},{"entity":"items","id":"1","snapshot":false}]}`)
	c.WantReply("error 1 x.y too_many_subscriptions")
	c.WantReply("error 1 items 2 too_many_subscriptions")
	c.WantReply("ack 1")
	c.Send(`{"action":"unsubscribe","ref":2,"body":{"entity":"items","id":"1"}}`)
	c.WantReply("ack 2")
	c.Send(`{"action":"subscribe","ref":3,"body":[{"topic":"x.y"},{"topic":"x.z"}]}`)
	c.WantReply("error 3 x.z too_many_subscriptions")
	c.WantReply("ack 3")
}

// Case A11: what is published on one node reaches the subscribers of all, once.
func TestTopicsOfSeveralNodes(t *testing.T) {
	var b membus.Broker
	var nodes []*server
	var clients []*conn
	for range 3 {
		s := startOn(t, &b, web.Config{}, echo)
		s.channel(t, "x", open)
		c := s.dialV2(t)
		c.Send(`{"action":"subscribe","body":{"topic":"x"}}`)
		c.WantReply("ack")
		nodes, clients = append(nodes, s), append(clients, c)
	}
	for n, s := range nodes {
		s.publish(t, "x.y", fmt.Sprint(n))
	}
	for _, c := range clients {
		for n := range nodes {
			c.WantReply(fmt.Sprint("event x.y [x] ", n))
		}
	}
	clients[1].Send(`{"action":"publish","ref":1,"body":{"topic":"x","data":"last","echo":false}}`)
	clients[1].WantReply("ack 1")
	clients[0].WantReply(`event x [x] "last"`)
	clients[2].WantReply(`event x [x] "last"`)
	nodes[0].publish(t, "x", "1")
	clients[1].WantReply("event x [x] 1")
}

// While the bus is away events are missed, and publishing fails.
func TestTopicsWhileTheBusIsAway(t *testing.T) {
	s := start(t, web.Config{}, echo)
	s.channel(t, "x", events.Channel{Public: true, ClientsPublish: true, Keep: 10, KeepFor: patience})
	c := s.dialV2(t)
	c.Send(`{"action":"subscribe","body":{"topic":"x"}}`)
	c.WantReply("ack")
	s.broker.SetDown(true)
	c.Send(`{"action":"publish","ref":1,"body":{"topic":"x","data":1}}`)
	c.WantReply("error 1 x unavailable")
	s.broker.SetDown(false)
	c.WantReply("gap x")
	s.publish(t, "x", "2")
	first := c.WantReply("event x [x] 2")
	s.publish(t, "x", "3")
	c.WantReply("event x [x] 3")

	var event shared.Event
	if err := json.Unmarshal(first.Event, &event); err != nil {
		t.Fatal(err)
	}
	back := s.dialV2(t)
	back.Send(`{"action":"subscribe","ref":1,"body":[{"topic":"x","after":%q}]}`, event.ID())
	back.WantReply("ack 1")
	back.WantReply("gap x") // the bus was away shortly before the event that it names
	back.WantReply("event x [x] 3")
	back.Send(`{"action":"subscribe","ref":2,"body":[{"topic":"x","after":"unknown"}]}`)
	back.WantReply("ack 2")
	back.WantReply("gap x")
}

// A client that does not read is told how many events it has missed, and misses no row.
func TestASlowClientOfTopics(t *testing.T) {
	const kept = 8
	s := start(t, web.Config{MaxQueuedEvents: kept, WriteTimeout: patience, PongWait: patience}, echo)
	s.channel(t, "x", open)
	c := s.dialV2(t)
	c.Send(`{"action":"subscribe","body":[{"topic":"x"},{"entity":"items","id":"1"}]}`)
	c.WantReply("ack")
	c.WantReply(`update items 1 {"id":"1","for":""}`)
	large := `"` + strings.Repeat("x", 20<<10) + `"`
	const published = 800 // 16 MB are more than a socket takes
	for range published {
		s.publish(t, "x", large)
	}
	s.notify(t, "1")
	received, missed, row := 0, 0, false
	for received+missed < published || !row {
		switch r := c.Reply(); r.Action {
		case wire.ActionEvent:
			received++
		case wire.ActionGap:
			missed += int(r.Missed) //nolint:gosec // few
		case wire.ActionUpdate:
			row = true
		default:
			t.Fatalf("got %+v", r)
		}
	}
	if received+missed != published || missed == 0 {
		t.Errorf("%d events and %d missed are not the %d published", received, missed, published)
	}
}

func TestAPanicOfTheApplicationCostsAPublication(t *testing.T) {
	s := start(t, web.Config{Authorize: func(context.Context, shared.AccessRequest) error { panic(errors.New("at the disco")) }}, echo)
	s.channel(t, "x", events.Channel{ClientsPublish: true})
	c := s.dialV2(t)
	c.Send(`{"action":"publish","ref":1,"body":{"topic":"x","data":1}}`)
	c.WantReply("error 1 x unavailable")
	c.Send(`{"action":"subscribe","ref":2,"body":{"topic":"x"}}`)
	c.WantReply("error 2 x unavailable")
	c.WantReply("ack 2")
}
