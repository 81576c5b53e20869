package test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/nsqio/go-nsq"

	"github.com/entity-sync/entity-sync/bridge/nsqbus"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

// Ten entity types on two nodes are two subscriptions in all, and every one of
// them works: from node to node, from a program that knows keys alone, and after
// an outage.
func TestASharedTopic(t *testing.T) {
	t.Parallel()
	nsqd := nsqdtest.Start(t)
	var db database
	config := es.Config{NSQAddr: nsqd.Addr, NSQ: nsqbus.Config{Prefix: "my.", SharedTopic: "changes"}}
	here, there := startNode(t, &db, config), startNode(t, &db, config)
	kind := func(i int) shared.EntityType { return shared.EntityType(fmt.Sprint("kind", i)) }
	const kinds = 10
	for i := range kinds {
		for _, n := range []*node{here, there} {
			if err := es.Register(n.EntitySync, kind(i), db.fetch); err != nil {
				t.Fatal(err)
			}
		}
	}
	untilReady(t, here, there)
	c := there.dial(t, "me")
	for i := range kinds {
		c.Send(`{"action":"subscribe","body":{"entity":%q,"id":"%d","snapshot":true}}`, kind(i), i)
		c.read()
	}
	c.watch("100")
	changeEach := func(announce func(key shared.EntityKey)) {
		t.Helper()
		for i := range kinds {
			rev := db.write(fmt.Sprint(i))
			announce(shared.EntityKey{Entity: kind(i), ID: fmt.Sprint(i)})
			for r := c.read(); r.ID != fmt.Sprint(i) || r.Rev < rev; r = c.read() {
			}
		}
	}
	notify := func(key shared.EntityKey) {
		t.Helper()
		if err := here.Notify(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	changeEach(notify)
	if got := fmt.Sprint(subscriptions(t, nsqd)); got != "map[my.changes:2]" {
		t.Errorf("subscriptions by topic: %s, want one for each of the two nodes", got)
	}

	p, err := nsq.NewProducer(nsqd.Addr, nsq.NewConfig())
	if err != nil {
		t.Fatal(err)
	}
	p.SetLoggerLevel(nsq.LogLevelMax)
	defer p.Stop()
	changeEach(func(key shared.EntityKey) {
		t.Helper()
		for _, body := range []string{"rubbish", `{"entity":"unheard of","id":"1"}`, fmt.Sprintf(`{"entity":%q,"id":%q}`, key.Entity, key.ID)} {
			if err := p.Publish("my.changes", []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
	})

	nsqd.Stop(t)
	testkit.Until(t, "the node noticed", func() bool { return !there.Bridge.Ready() })
	rev := db.write("100")
	nsqd.Start(t)
	for r := c.read(); r.ID != "100" || r.Rev < rev; r = c.read() {
	}
	untilReady(t, here, there)
	changeEach(notify)
	if got := there.Bridge.Stats().Resyncs; got.Lost != 0 {
		t.Errorf("resyncs %+v: numbers of different entity types were mixed up", got)
	}
}

// subscriptions asks nsqd how many subscribers each topic has.
func subscriptions(t *testing.T, nsqd *nsqdtest.Daemon) map[string]int {
	t.Helper()
	answer, err := http.Get("http://" + nsqd.HTTPAddr + "/stats?format=json")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	var stats struct {
		Topics []struct {
			Name     string `json:"topic_name"`
			Channels []struct {
				Clients int `json:"client_count"`
			} `json:"channels"`
		} `json:"topics"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&stats); err != nil {
		t.Fatal(err)
	}
	n := make(map[string]int)
	for _, topic := range stats.Topics {
		for _, channel := range topic.Channels {
			n[topic.Name] += channel.Clients
		}
	}
	return n
}
