package test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nsqio/go-nsq"

	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/bridge/nsqbus"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

// tap writes what is published on an nsqd to the test's output.
type tap struct {
	t      testing.TB
	heard  atomic.Int64
	secret atomic.Int64 // of these, what shows one
}

func (l *tap) Message(body []byte) {
	fmt.Fprintf(l.t.Output(), "published: %s\n", body)
	l.heard.Add(1)
	if strings.Contains(string(body), mark) {
		l.secret.Add(1)
	}
}

func (l *tap) Live()      {}
func (l *tap) Lost(error) {}

var _ bus.Listener = (*tap)(nil)

// Everything that one node tells another: changes, beats, and orders about the
// sessions that go by a secret.
func TestNoSecretTravelsOverNSQ(t *testing.T) {
	t.Parallel()
	nsqd := nsqdtest.Start(t)
	bus, err := nsqbus.New(nsqbus.Config{Addrs: []string{nsqd.Addr}, Logger: canary.Logger(canary.Output(t))})
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close(t.Context())
	keys, orders := &tap{t: t}, &tap{t: t}
	for topic, l := range map[shared.EntityType]*tap{items: keys, "es.sessions": orders} {
		if err := bus.Subscribe(topic, l); err != nil {
			t.Fatal(err)
		}
	}
	var db database
	here, there := startNode(t, &db, es.Config{NSQAddr: nsqd.Addr}), startNode(t, &db, es.Config{NSQAddr: nsqd.Addr})
	untilReady(t, here, there)
	testkit.Until(t, "both topics are heard", func() bool {
		here.notify(t, canary.Decoy(canary.NSQ))
		if err := here.Disconnect(t.Context(), mark+"nobody"); err != nil {
			t.Fatal(err)
		}
		return keys.heard.Load() > 0 && orders.heard.Load() > 0
	})
	c := there.dial(t, "me")
	c.watch("100")
	c.Send(`{"action":"secret","body":%q}`, mark+"another")
	rev := db.write("100")
	here.notify(t, "100")
	c.readUntil(rev)
	before := orders.heard.Load()
	if err := here.Revoke(t.Context(), mark+"another"); err != nil {
		t.Fatal(err)
	}
	testkit.Until(t, "the order is heard", func() bool { return orders.heard.Load() > before })
	if n := keys.secret.Load() + orders.secret.Load(); n > 0 {
		t.Errorf("%d messages show a secret", n)
	}
}

// What nsqd writes is searched for secrets: its log, and the messages that it has
// not got rid of, which are in files once it has ended.
func TestWhatNSQDWritesIsSearched(t *testing.T) {
	t.Parallel()
	nsqd := nsqdtest.Start(t)
	response, err := http.Get("http://" + nsqd.HTTPAddr + "/" + canary.Decoy(canary.NSQLog))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	p, err := nsq.NewProducer(nsqd.Addr, nsq.NewConfig())
	if err != nil {
		t.Fatal(err)
	}
	p.SetLoggerLevel(nsq.LogLevelMax)
	defer p.Stop()
	if err := p.Publish("items", []byte(canary.Decoy(canary.NSQData))); err != nil {
		t.Fatal(err)
	}
	nsqd.Stop(t)
	http.DefaultClient.CloseIdleConnections()
}
