package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/bridge/events"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/nodetest"
	"github.com/entity-sync/entity-sync/internal/testkit/socket"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
	"github.com/entity-sync/entity-sync/web/wire"
)

// allEvents is the bus's topic of all events.
const allEvents shared.EntityType = "es.events"

// said is the data of a test's event: its publisher's number, and its number among those of the
// publisher.
type said struct {
	By int `json:"by"`
	N  int `json:"n"`
}

// startNewsNode starts a node with the channel news, to which every client subscribes and
// publishes.
func startNewsNode(t *testing.T, c es.Config) *node {
	t.Helper()
	n := &node{nodetest.Start(t, c)}
	if err := es.RegisterChannel(n.EntitySync, "news", es.Public(), es.ClientsPublish()); err != nil {
		t.Fatal(err)
	}
	return n
}

// untilHeard waits until each node hears all topics by way of all its nsqd.
func untilHeard(t *testing.T, nodes ...*node) {
	t.Helper()
	untilReady(t, nodes...)
	for i, n := range nodes {
		testkit.Until(t, fmt.Sprintf("node %d is subscribed everywhere", i), func() bool { return goneFrom(n) == "" })
	}
}

// listener is a v2 client that is subscribed to topics.
type listener struct {
	*socket.Conn
	t *testing.T
}

func (n *node) listen(t *testing.T, topics ...shared.Topic) *listener {
	t.Helper()
	c := socket.DialV2(t, n.URL)
	for _, topic := range topics {
		c.Send(`{"action":"subscribe","ref":1,"body":{"topic":%q}}`, topic)
		c.Until("the subscription", func(r wire.Reply) bool { return r.Action == wire.ActionAck })
	}
	return &listener{c, t}
}

// next returns the next event or gap.
func (l *listener) next() (what said, gap bool) {
	l.t.Helper()
	r := l.Until("an event or a gap", func(r wire.Reply) bool {
		return r.Action == wire.ActionEvent || r.Action == wire.ActionGap
	})
	if r.Action == wire.ActionGap {
		return said{}, true
	}
	return readSaid(l.t, r.Event), false
}

// event returns the next event.
func (l *listener) event() said {
	l.t.Helper()
	for {
		if what, gap := l.next(); !gap {
			return what
		}
	}
}

func readSaid(t *testing.T, text []byte) (what said) {
	t.Helper()
	e, err := shared.ParseEvent(text)
	if err == nil {
		err = json.Unmarshal(e.Data(), &what)
	}
	if err != nil {
		t.Fatalf("reading the event %s: %v", text, err)
	}
	return what
}

// say publishes an event: with an even number as data, with an odd one as a CloudEvent.
func (n *node) say(what said) error {
	if what.N%2 == 0 {
		return n.Publish(context.Background(), "news.uk", what)
	}
	data, err := json.Marshal(what)
	if err != nil {
		return err
	}
	e, err := shared.NewEvent(shared.EventFields{ID: fmt.Sprint(what.By, " ", what.N), Source: "/test", Type: "said", Data: data})
	if err != nil {
		return err
	}
	return n.PublishEvent(context.Background(), e, "news.uk")
}

// Nodes on two nsqd publish at once, and so does a client. Each subscriber of each node gets
// every event once, and those of one publisher in their order.
func TestEventsOfAllNodesReachTheSubscribersOfAll(t *testing.T) {
	t.Parallel()
	one, two := nsqdtest.Start(t), nsqdtest.Start(t)
	var nodes []*node
	for _, addrs := range []string{one.Addr + "," + two.Addr, two.Addr + "," + one.Addr, one.Addr + "," + two.Addr} {
		nodes = append(nodes, startNewsNode(t, es.Config{NSQAddr: addrs}))
	}
	untilHeard(t, nodes...)
	hearing := introduce(t, nodes)
	for _, n := range nodes {
		hearing = append(hearing, n.listenStrictly(t, "news"), n.listenStrictly(t, "news", "news.uk"))
	}

	const each, ofClient = 50, 20
	var publishing sync.WaitGroup
	for by, n := range nodes {
		publishing.Go(func() {
			for i := range each {
				if err := n.say(said{by, 1 + i}); err != nil {
					t.Errorf("node %d could not publish: %v", by, err)
				}
			}
		})
	}
	publisher := socket.DialV2(t, nodes[1].URL)
	for i := range ofClient {
		publisher.Send(`{"action":"publish","ref":%d,"body":{"topic":"news.uk","data":{"by":%d,"n":%d}}}`, i, len(nodes), i)
		publisher.WantReply(fmt.Sprint("ack ", i))
	}
	publishing.Wait()
	end := said{-1, 0}
	if err := nodes[0].say(end); err != nil {
		t.Fatal(err)
	}
	for i, next := range hearing {
		heard, ended := make(map[int][]int), false
		for range len(nodes)*each + ofClient + 1 {
			what := next()
			heard[what.By] = append(heard[what.By], what.N)
			ended = ended || what == end
		}
		for by, numbers := range heard {
			if !slices.IsSorted(numbers) || len(slices.Compact(slices.Clone(numbers))) != len(numbers) {
				t.Errorf("subscriber %d heard of publisher %d: %v", i, by, numbers)
			}
		}
		if !ended {
			t.Errorf("subscriber %d has not heard the last event among as many as there were: one came twice", i)
		}
	}
}

// introduce has each node's application hear one event of each node. A node that hears a
// publisher's second message first, by way of another nsqd, tells of a gap.
func introduce(t *testing.T, nodes []*node) (hearing []func() said) {
	t.Helper()
	for _, n := range nodes {
		hearing = append(hearing, n.listenItself(t))
	}
	for by, n := range nodes {
		first := said{by, 0}
		if err := n.say(first); err != nil {
			t.Fatal(err)
		}
		for i, next := range hearing {
			if got := next(); got != first {
				t.Errorf("node %d heard %+v, want %+v", i, got, first)
			}
		}
	}
	return hearing
}

// listenStrictly is listen for a client that must be told of no gap.
func (n *node) listenStrictly(t *testing.T, topics ...shared.Topic) (next func() said) {
	t.Helper()
	l := n.listen(t, topics...)
	return func() said {
		t.Helper()
		what, gap := l.next()
		if gap {
			t.Fatal("told of a gap")
		}
		return what
	}
}

// listenItself has the application of a node hear the news.
func (n *node) listenItself(t *testing.T) (next func() said) {
	t.Helper()
	heard := make(chan events.Received, 1000)
	stop, err := n.Listen("news", func(r events.Received) { heard <- r })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return func() said {
		t.Helper()
		select {
		case r := <-heard:
			if r.Gap {
				t.Fatal("the application was told of a gap")
			}
			return readSaid(t, r.Event.JSON())
		case <-time.After(patience):
			t.Fatal("the application hears no event")
		}
		return said{}
	}
}

// publishOverHTTP has a program publish a body to the topic of events.
func publishOverHTTP(t *testing.T, nsqd *nsqdtest.Daemon, topic, body string) {
	t.Helper()
	defer http.DefaultClient.CloseIdleConnections()
	answer, err := http.Post("http://"+nsqd.HTTPAddr+"/pub?topic="+topic, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("nsqd answered %s", answer.Status)
	}
}

// record is what a program that is no node publishes. Without a time it does not say when.
func record(what said, at time.Time) string {
	when := ""
	if !at.IsZero() {
		when = fmt.Sprintf(`,"at":%d`, at.UnixMilli())
	}
	return fmt.Sprintf(`{"entity":%q,"records":[{"topic":"news","event":{"specversion":"1.0","id":"%d","source":"/program","type":"said","data":{"by":%d,"n":%d}}}]%s}`,
		allEvents, what.N, what.By, what.N, when)
}

// waitingOn returns how many messages nsqd has not handed on, or has not had acknowledged, and
// how many channels the topic has.
func waitingOn(t *testing.T, nsqd *nsqdtest.Daemon, topic string) (messages, channels int) {
	t.Helper()
	defer http.DefaultClient.CloseIdleConnections()
	answer, err := http.Get("http://" + nsqd.HTTPAddr + "/stats?format=json&topic=" + topic)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var stats struct {
		Topics []struct {
			Depth    int `json:"depth"`
			Channels []struct {
				Depth    int `json:"depth"`
				InFlight int `json:"in_flight_count"`
			} `json:"channels"`
		} `json:"topics"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&stats); err != nil {
		t.Fatal(err)
	}
	for _, topic := range stats.Topics {
		messages += topic.Depth
		channels += len(topic.Channels)
		for _, c := range topic.Channels {
			messages += c.Depth + c.InFlight
		}
	}
	return messages, channels
}

// What a program publishes while no node is there is kept by nsqd, and is no news when nodes
// come. The clients subscribe before the nodes hear nsqd, so that they would hear it.
func TestEventsFromWhenNoNodeWasThereAreNotDelivered(t *testing.T) {
	t.Parallel()
	nsqd := nsqdtest.Start(t)
	config := es.Config{NSQAddr: nsqd.Addr}
	config.NSQ.Prefix = "mine."
	topic := config.NSQ.Prefix + string(allEvents)
	earlier := []*node{startNewsNode(t, config), startNewsNode(t, config)}
	untilHeard(t, earlier...)
	for _, n := range earlier {
		if err := n.say(said{0, 0}); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range earlier {
		if err := n.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Until(t, "the nodes' channels are gone", func() bool {
		_, channels := waitingOn(t, nsqd, topic)
		return channels == 0
	})
	for n, at := range []time.Time{time.Now(), {}, time.Now().Add(-time.Hour)} {
		publishOverHTTP(t, nsqd, topic, record(said{1, n}, at))
	}
	if messages, _ := waitingOn(t, nsqd, topic); messages < 3 {
		t.Fatalf("nsqd keeps %d messages, want what was published", messages)
	}

	line := newCable(t, nsqd.Addr)
	line.set(closed)
	config.NSQAddr = line.addr
	nodes := []*node{startNewsNode(t, config), startNewsNode(t, config)}
	var clients []*listener
	for _, n := range nodes {
		clients = append(clients, n.listen(t, "news"))
	}
	line.set(whole)
	untilHeard(t, nodes...)
	testkit.Until(t, "the nodes have had what nsqd kept", func() bool {
		messages, _ := waitingOn(t, nsqd, topic)
		return messages == 0
	})
	publishOverHTTP(t, nsqd, topic, record(said{2, 0}, time.Now()))
	for i, l := range clients {
		if got := l.event(); got != (said{2, 0}) {
			t.Errorf("client %d heard %+v first, want what was published last", i, got)
		}
	}
}

// Where nodes have a key, an event without its HMAC, or with that of another key, is not
// delivered.
func TestAForgerPutsNoEventOnTheBusWhereNodesHaveAKey(t *testing.T) {
	t.Parallel()
	nsqd := nsqdtest.Start(t)
	nodes := []*node{startNewsNode(t, es.Config{NSQAddr: nsqd.Addr, BusKey: laterKey}), startNewsNode(t, es.Config{NSQAddr: nsqd.Addr, BusKey: laterKey})}
	untilHeard(t, nodes...)
	var clients []*listener
	for _, n := range nodes {
		clients = append(clients, n.listen(t, "news"))
	}
	now := time.Now()
	good := signed(laterKey, record(said{2, 0}, now))
	forged := [][]byte{
		[]byte(record(said{1, 0}, now)),
		signed("a key that is none of theirs", record(said{1, 1}, now)),
		bytes.Replace(good, []byte(`"n":0`), []byte(`"n":3`), 1),
	}
	f := newForger(t, nsqd, "")
	f.publish(allEvents, forged...)
	for i, n := range nodes {
		testkit.Until(t, fmt.Sprintf("node %d refused what was forged", i), func() bool {
			return n.Bridge.Stats().Refused == uint64(len(forged))
		})
	}
	f.publish(allEvents, good)
	if err := nodes[0].say(said{3, 0}); err != nil {
		t.Fatal(err)
	}
	for i, l := range clients {
		got := []said{l.event(), l.event()}
		slices.SortFunc(got, func(a, b said) int { return a.By - b.By })
		if want := []said{{2, 0}, {3, 0}}; !slices.Equal(got, want) {
			t.Errorf("client %d heard %v, want what has the key's HMAC: %v", i, got, want)
		}
	}
	for i, n := range nodes {
		if got := n.Bridge.Stats().Refused; got != uint64(len(forged)) {
			t.Errorf("node %d has refused %d messages in the end, want %d", i, got, len(forged))
		}
	}
}
