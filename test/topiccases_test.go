package test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/testkit/nodetest"
	"github.com/entity-sync/entity-sync/internal/testkit/socket"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
	"github.com/entity-sync/entity-sync/web/client"
	"github.com/entity-sync/entity-sync/web/wire"
)

// The cases of this file are those of neighbouring publish/subscribe systems, on the v2 wire. A is
// a system of CloudEvents over WebSocket, D one of hierarchical topics with acknowledgements.

// theEnd is the topic that tells a subscriber that an earlier event will not come any more: the
// events of one node come in order.
const theEnd shared.Topic = "end"

// cluster is nodes on one nsqd, with the channels news, sport and end.
type cluster struct {
	t     *testing.T
	nodes []*node
}

// onNodes runs a case on two nodes and on three.
func onNodes(t *testing.T, c es.Config, check func(t *testing.T, c *cluster)) {
	t.Parallel()
	for _, n := range []int{2, 3} {
		t.Run(fmt.Sprintf("%d nodes", n), func(t *testing.T) {
			t.Parallel()
			check(t, startCluster(t, n, c))
		})
	}
}

func startCluster(t *testing.T, n int, config es.Config) *cluster {
	t.Helper()
	config.NSQAddr = nsqdtest.Start(t).Addr
	c := &cluster{t: t}
	for range n {
		started := &node{nodetest.Start(t, config)}
		for _, channel := range []string{"news", "sport", string(theEnd)} {
			if err := es.RegisterChannel(started.EntitySync, channel, es.Public(), es.ClientsPublish()); err != nil {
				t.Fatal(err)
			}
		}
		c.nodes = append(c.nodes, started)
	}
	untilHeard(t, c.nodes...)
	return c
}

// subscribers returns a client of each node that has subscribed to topics.
func (c *cluster) subscribers(topics ...shared.Topic) (all []*listener) {
	c.t.Helper()
	for _, n := range c.nodes {
		all = append(all, n.listen(c.t, append(slices.Clone(topics), theEnd)...))
	}
	return all
}

// talkers returns a client of each node that subscribes to nothing.
func (c *cluster) talkers() (all []*socket.Conn) {
	for _, n := range c.nodes {
		all = append(all, socket.DialV2(c.t, n.URL))
	}
	return all
}

// want checks what each of some subscribers has been sent since the last check: the line of each
// event, in any order. Every subscriber of the cluster must be in one of the groups.
func (c *cluster) want(groups ...group) {
	c.t.Helper()
	for _, n := range c.nodes {
		if err := n.Publish(c.t.Context(), theEnd, nil); err != nil {
			c.t.Fatal(err)
		}
	}
	for _, g := range groups {
		slices.Sort(g.lines)
		for i, l := range g.who {
			var got []string
			for _, r := range c.heard(l) {
				got = append(got, socket.Line(r))
			}
			if slices.Sort(got); !slices.Equal(got, g.lines) {
				c.t.Errorf("subscriber %d of %d heard %q, want %q", i, len(g.who), got, g.lines)
			}
		}
	}
}

// group is subscribers that hear the same.
type group struct {
	who   []*listener
	lines []string
}

func hear(who []*listener, lines ...string) group { return group{who, lines} }

// heard returns the events that a subscriber is sent before each node's end.
func (c *cluster) heard(l *listener) (events []wire.Reply) {
	c.t.Helper()
	for ends := 0; ends < len(c.nodes); {
		r := l.Until("the end", func(r wire.Reply) bool { return r.Action == wire.ActionEvent })
		if r.Topic == theEnd {
			ends++
			continue
		}
		events = append(events, r)
	}
	return events
}

// request says a request, which must be answered by these lines.
func request(c *socket.Conn, text string, answers ...string) {
	c.Send("%s", text)
	for _, line := range answers {
		c.WantReply(line)
	}
}

func TestA01SubscribersOfATopicGetItsEvents(t *testing.T) {
	onNodes(t, es.Config{}, func(t *testing.T, c *cluster) {
		one, both, other := c.subscribers("news"), c.subscribers(), c.subscribers("sport")
		for _, l := range both {
			request(l.Conn, `{"action":"subscribe","ref":1,"body":[{"topic":"news"},{"topic":"sport"}]}`, "ack 1")
		}
		var want []string
		for i, talker := range c.talkers() {
			request(talker, fmt.Sprintf(`{"action":"publish","ref":2,"body":{"topic":"news","data":%d}}`, i), "ack 2")
			want = append(want, fmt.Sprint("event news [news] ", i))
		}
		c.want(hear(one, want...), hear(both, want...), hear(other))
	})
}

func TestA02AnEventIsPublishedToOneTopicOrSeveral(t *testing.T) {
	onNodes(t, es.Config{}, func(t *testing.T, c *cluster) {
		news, sport, both := c.subscribers("news"), c.subscribers("sport"), c.subscribers("news", "sport")
		var ofNews, ofSport, ofBoth []string
		for i, talker := range c.talkers() {
			request(talker, fmt.Sprintf(`{"action":"publish","ref":1,"body":{"topic":"news","data":%d}}`, i), "ack 1")
			request(talker, fmt.Sprintf(`{"action":"publish","ref":2,"body":{"topic":["news","sport"],"data":"both %d"}}`, i), "ack 2")
			ofNews = append(ofNews, fmt.Sprint("event news [news] ", i), fmt.Sprintf(`event news [news] "both %d"`, i))
			ofSport = append(ofSport, fmt.Sprintf(`event sport [sport] "both %d"`, i))
			ofBoth = append(ofBoth, fmt.Sprint("event news [news] ", i), fmt.Sprintf(`event news [news sport] "both %d"`, i))
		}
		c.want(hear(news, ofNews...), hear(sport, ofSport...), hear(both, ofBoth...))
	})
}

// plainEvent is the attributes that each CloudEvent has.
const plainEvent = `"specversion":"1.0","id":"1","source":"/s","type":"t"`

func TestA04AnEventWithoutARequiredAttributeIsRefused(t *testing.T) {
	onNodes(t, es.Config{}, func(t *testing.T, c *cluster) {
		hearing, talkers := c.subscribers("news"), c.talkers()
		var events []string
		for _, attribute := range []string{`"specversion":"1.0"`, `"id":"1"`, `"source":"/s"`, `"type":"t"`} {
			name, _, _ := strings.Cut(attribute, ":")
			for _, instead := range []string{name + `:""`, name + `:null`, name + `:1`, `"other":"1"`} {
				events = append(events, strings.Replace(plainEvent, attribute, instead, 1))
			}
		}
		events = append(events, strings.Replace(plainEvent, "1.0", "0.3", 1))
		var want []string
		for _, talker := range talkers {
			for _, event := range events {
				request(talker, `{"action":"publish","ref":1,"body":{"topic":"news","event":{`+event+`}}}`, "error 1 news bad_event")
			}
			request(talker, `{"action":"publish","ref":2,"body":{"topic":"news","event":{`+plainEvent+`,"data":"good"}}}`, "ack 2")
			want = append(want, `event news [news] "good"`)
		}
		c.want(hear(hearing, want...))
	})
}

// delivers checks that a CloudEvent which a client of each node publishes reaches the subscribers
// of all nodes as it is said, and that the texts that no CloudEvent may be are refused.
func (c *cluster) delivers(events map[string]string, refused ...string) {
	c.t.Helper()
	hearing, talkers := c.subscribers("news"), c.talkers()
	for _, talker := range talkers {
		for _, event := range refused {
			request(talker, `{"action":"publish","ref":1,"body":{"topic":"news","event":`+event+`}}`, "error 1 news bad_event")
		}
	}
	for event, want := range events {
		for _, talker := range talkers {
			request(talker, `{"action":"publish","ref":1,"body":{"topic":"news","event":`+event+`}}`, "ack 1")
			for i, l := range hearing {
				r := l.Until("the event", func(r wire.Reply) bool { return r.Action == wire.ActionEvent })
				if string(r.Event) != want {
					c.t.Errorf("subscriber %d got %s, want %s", i, r.Event, want)
				}
			}
		}
	}
	c.want(hear(hearing))
}

func TestA05ATimeInSecondsIsSentOnAsText(t *testing.T) {
	onNodes(t, es.Config{}, func(t *testing.T, c *cluster) {
		c.delivers(map[string]string{
			`{` + plainEvent + `,"time":1764490000}`:                      `{` + plainEvent + `,"time":"2025-11-30T08:06:40Z"}`,
			`{"time":0,` + plainEvent + `}`:                               `{"time":"1970-01-01T00:00:00Z",` + plainEvent + `}`,
			`{` + plainEvent + `,"time":"2025-11-30T08:06:40.125+01:00"}`: `{` + plainEvent + `,"time":"2025-11-30T08:06:40.125+01:00"}`,
		}, `{`+plainEvent+`,"time":1.5}`, `{`+plainEvent+`,"time":-1}`, `{`+plainEvent+`,"time":"1764490000"}`, `{`+plainEvent+`,"time":{}}`)
	})
}

func TestA06AMemberThatIsNoAttributeComesAsItWas(t *testing.T) {
	onNodes(t, es.Config{}, func(t *testing.T, c *cluster) {
		same := make(map[string]string)
		for _, event := range []string{
			`{` + plainEvent + `,"meta":{"user":{"id":7,"tags":["a",null,1.50]}},"data":[{}]}`,
			`{"meta":[],` + plainEvent + `}`,
			`{` + plainEvent + `,"meta":null,"Meta":"\u00e9","subject":"s"}`,
		} {
			same[event] = event
		}
		c.delivers(same)
	})
}

func TestA07UnsubscribingEndsThatTopicAlone(t *testing.T) {
	onNodes(t, es.Config{}, func(t *testing.T, c *cluster) {
		hearing := c.subscribers("news", "sport")
		for _, l := range hearing {
			request(l.Conn, `{"action":"unsubscribe","ref":1,"body":{"topic":"news.uk"}}`, "ack 1") // never subscribed to
			request(l.Conn, `{"action":"unsubscribe","ref":2,"body":[{"topic":"news"},{"topic":"unknown"}]}`, "ack 2")
		}
		var want []string
		for i, talker := range c.talkers() {
			request(talker, fmt.Sprintf(`{"action":"publish","ref":1,"body":{"topic":"news","data":%d}}`, i), "ack 1")
			request(talker, fmt.Sprintf(`{"action":"publish","ref":2,"body":{"topic":"sport","data":%d}}`, i), "ack 2")
			want = append(want, fmt.Sprint("event sport [sport] ", i))
		}
		c.want(hear(hearing, want...))
	})
}

// An unknown action and broken JSON are answered. The connection that said them stays, and other
// clients are told nothing of them.
func TestA09NonsenseIsAnswered(t *testing.T) { onNodes(t, es.Config{}, takesNonsense) }

func TestD14BrokenJSONCostsNoConnection(t *testing.T) { onNodes(t, es.Config{}, takesNonsense) }

func takesNonsense(t *testing.T, c *cluster) {
	hearing := c.subscribers("news")
	for i, l := range hearing {
		for range 3 {
			request(l.Conn, `{"action":"shout","ref":1,"body":{}}`, "error 1 unknown_action")
			request(l.Conn, `{"action":"publish","ref":2,"body":{`, "error bad_json")
			request(l.Conn, `[`, "error bad_json")
		}
		request(l.Conn, fmt.Sprintf(`{"action":"publish","ref":3,"body":{"topic":"sport","data":%d}}`, i), "ack 3")
	}
	request(hearing[0].Conn, `{"action":"publish","ref":4,"body":{"topic":"news","data":1,"echo":false}}`, "ack 4")
	c.want(hear(hearing[:1]), hear(hearing[1:], "event news [news] 1"))
}

// Every subscriber of all nodes gets an event of each node once. D10 asks for the same: there is
// no loop among nodes, and no copy.
func TestA11AnEventReachesEachSubscriberOfAllNodesOnce(t *testing.T) {
	onNodes(t, es.Config{}, reachesAllOnce)
}

func TestD10NodesMakeNoCopies(t *testing.T) { onNodes(t, es.Config{}, reachesAllOnce) }

func reachesAllOnce(t *testing.T, c *cluster) {
	one, other := c.subscribers("news"), c.subscribers("news")
	var want []string
	for by, talker := range c.talkers() {
		for i := range 20 {
			request(talker, fmt.Sprintf(`{"action":"publish","ref":1,"body":{"topic":"news","data":"%d of %d"}}`, i, by), "ack 1")
			want = append(want, fmt.Sprintf(`event news [news] "%d of %d"`, i, by))
		}
	}
	c.want(hear(one, want...), hear(other, want...))
}

// Each request that is done is acknowledged, with the client's ref.
func TestD01WhatIsDoneIsAcknowledged(t *testing.T) {
	onNodes(t, es.Config{}, func(t *testing.T, c *cluster) {
		for _, talker := range c.talkers() {
			for ref, answer := range map[string]string{"1": "ack 1", `"a"`: `ack "a"`, "2.5": "ack 2.5"} {
				request(talker, `{"action":"subscribe","ref":`+ref+`,"body":{"topic":"news"}}`, answer)
				request(talker, `{"action":"unsubscribe","ref":`+ref+`,"body":{"topic":"news"}}`, answer)
				request(talker, `{"action":"publish","ref":`+ref+`,"body":{"topic":"sport","data":1}}`, answer)
			}
			request(talker, `{"action":"publish","ref":1,"body":{"topic":"unknown"}}`, "error 1 unknown unknown_topic")
		}
	})
}

func TestD02AnyJSONIsData(t *testing.T) {
	onNodes(t, es.Config{}, func(t *testing.T, c *cluster) {
		hearing := c.subscribers("news")
		values := []string{`null`, `true`, `0`, `-1.50e3`, `""`, `"\u00e9\ud83d\ude00"`, `[]`, `{}`, `{"b":1,"a":[null,{"c":[]}]}`}
		var want []string
		for _, talker := range c.talkers() {
			for _, value := range values {
				request(talker, `{"action":"publish","ref":1,"body":{"topic":"news","data":`+value+`}}`, "ack 1")
				want = append(want, "event news [news] "+value)
			}
			request(talker, `{"action":"publish","ref":2,"body":{"topic":"news"}}`, "ack 2")
			want = append(want, "event news [news]")
		}
		c.want(hear(hearing, want...))
	})
}

func TestD04AParentHearsWhatIsBelow(t *testing.T) {
	onNodes(t, es.Config{}, func(t *testing.T, c *cluster) {
		parent, child, sibling := c.subscribers("news"), c.subscribers("news.uk"), c.subscribers("news.de")
		var ofParent, ofChild []string
		for by, talker := range c.talkers() {
			for _, topic := range []string{"news", "news.uk", "news.uk.london", "news.ukraine"} {
				request(talker, fmt.Sprintf(`{"action":"publish","ref":1,"body":{"topic":%q,"data":%d}}`, topic, by), "ack 1")
				ofParent = append(ofParent, fmt.Sprintf("event %s [news] %d", topic, by))
			}
			ofChild = append(ofChild, fmt.Sprint("event news.uk [news.uk] ", by), fmt.Sprint("event news.uk.london [news.uk] ", by))
		}
		c.want(hear(parent, ofParent...), hear(child, ofChild...), hear(sibling))
	})
}

// A client with two subscriptions that match gets one frame, whose context has both.
func TestD05OneFrameHasAllSubscriptionsThatMatch(t *testing.T) {
	onNodes(t, es.Config{}, func(t *testing.T, c *cluster) {
		hearing := c.subscribers("news", "news.uk")
		var before, after []string
		for by, talker := range c.talkers() {
			request(talker, fmt.Sprintf(`{"action":"publish","ref":1,"body":{"topic":"news.uk.london","data":%d}}`, by), "ack 1")
			before = append(before, fmt.Sprint("event news.uk.london [news.uk news] ", by))
		}
		c.want(hear(hearing, before...))
		for _, l := range hearing { // the end of the parent's subscription is not that of the child's
			request(l.Conn, `{"action":"unsubscribe","ref":1,"body":{"topic":"news"}}`, "ack 1")
		}
		for by, talker := range c.talkers() {
			request(talker, fmt.Sprintf(`{"action":"publish","ref":1,"body":{"topic":"news.uk","data":%d}}`, by), "ack 1")
			request(talker, `{"action":"publish","ref":1,"body":{"topic":"news"}}`, "ack 1")
			after = append(after, fmt.Sprint("event news.uk [news.uk] ", by))
		}
		c.want(hear(hearing, after...))
	})
}

func TestD07UnsubscribingWhatWasNotSubscribedChangesNothing(t *testing.T) {
	onNodes(t, es.Config{}, func(t *testing.T, c *cluster) {
		hearing := c.subscribers("news.uk")
		for _, l := range hearing {
			for _, topic := range []string{"news", "news.uk.london", "sport", "*", "unknown", ""} {
				request(l.Conn, fmt.Sprintf(`{"action":"unsubscribe","ref":1,"body":{"topic":%q}}`, topic), "ack 1")
			}
		}
		request(c.talkers()[0], `{"action":"publish","ref":1,"body":{"topic":"news.uk","data":1}}`, "ack 1")
		c.want(hear(hearing, "event news.uk [news.uk] 1"))
	})
}

// Each subscription of the Go client gets what matches it, whichever node the publisher is at.
func TestD12EachSubscriptionOfAClientGetsWhatMatches(t *testing.T) {
	onNodes(t, es.Config{}, func(t *testing.T, c *cluster) {
		dial := func(n *node) *client.Client {
			connected, err := client.Dial(t.Context(), strings.Replace(n.URL, "http", "ws", 1), client.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(connected.Close)
			return connected
		}
		publisher := dial(c.nodes[0])
		for round, n := range c.nodes {
			subscriber, end := dial(n), fmt.Sprintf(`"end %d"`, round)
			var heard [3][]string
			var following []func()
			for i, topic := range []shared.Topic{"news", "news.uk", "sport"} {
				s := subscriber.Topic(topic, client.TopicOptions{})
				<-s.Ready()
				following = append(following, func() {
					for r := range s.Events(t.Context()) {
						switch string(r.Event.Data()) {
						case end:
							return
						case fmt.Sprint(round): // an event of an earlier round may come late
							heard[i] = append(heard[i], string(r.Topic))
						}
					}
				})
			}
			for _, topic := range []shared.Topic{"news", "news.uk.london", "sport"} {
				if err := publisher.Publish(t.Context(), topic, round); err != nil {
					t.Fatal(err)
				}
			}
			for _, topic := range []shared.Topic{"news.uk", "sport"} {
				if err := publisher.Publish(t.Context(), topic, json.RawMessage(end)); err != nil {
					t.Fatal(err)
				}
			}
			for _, follow := range following {
				follow()
			}
			if want := [3][]string{{"news", "news.uk.london"}, {"news.uk.london"}, {"sport"}}; !slices.EqualFunc(heard[:], want[:], slices.Equal) {
				t.Errorf("the subscriptions heard %q, want %q", heard, want)
			}
		}
	})
}

// pingsOfFiveMinutes is how often an idle client is pinged in five minutes.
const pingsOfFiveMinutes = 12

// A client that says nothing stays connected for as many pings as it is sent in five minutes. It
// is pinged faster here, so that the test takes less time.
func TestD13AnIdleClientStays(t *testing.T) {
	var config es.Config
	config.Web.PingInterval = 50 * time.Millisecond
	onNodes(t, config, func(t *testing.T, c *cluster) {
		hearing := c.subscribers("news")
		for i, l := range hearing {
			pings, pong := 0, l.PingHandler()
			l.SetPingHandler(func(data string) error {
				pings++
				if pings == pingsOfFiveMinutes {
					if err := c.nodes[0].Publish(t.Context(), "news", i); err != nil {
						t.Error(err)
					}
				}
				return pong(data)
			})
			r := l.Until("the event", func(r wire.Reply) bool { return socket.Line(r) == fmt.Sprint("event news [news] ", i) })
			if pings < pingsOfFiveMinutes {
				t.Errorf("got %s after %d pings", socket.Line(r), pings)
			}
		}
	})
}
