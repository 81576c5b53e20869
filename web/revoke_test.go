package web_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web"
	"github.com/entity-sync/entity-sync/web/wire"
)

// spy hears what is said on a topic.
type spy chan string

func (s spy) Message(b []byte) { s <- string(b) }
func (s spy) Live()            {}
func (s spy) Lost(error)       {}

// Two nodes, and clients of both with the same secret. Whoever goes by it is sent
// away, on whichever node that was asked for; others stay.
func TestRevokeAndDisconnect(t *testing.T) {
	here := start(t, web.Config{}, echo)
	there := startOn(t, here.broker, web.Config{}, echo)
	said := make(spy, 100)
	if err := here.broker.NewNode().Subscribe("es.sessions", said); err != nil {
		t.Fatal(err)
	}
	join := func(s *server, secret string) *conn {
		c := s.dialV2(t)
		c.Send(`{"action":"secret","body":%q}`, secret)
		c.WantReply("ack")
		return c
	}
	for _, test := range []struct {
		end  func(*web.Handler, context.Context, string) error
		code int
	}{{(*web.Handler).Revoke, wire.CloseRevoked}, {(*web.Handler).Disconnect, wire.CloseDisconnected}} {
		mine, theirs, other, classic := join(here, mark), join(there, mark), join(there, mark+"another"), there.dial(t)
		classic.Send(`{"action":"secret","body":"` + mark + `"}`)
		classic.subscribe("1")
		testkit.Until(t, "it has said its secret", func() bool { return there.bridge.Stats().Subscriptions == 1 })

		if err := test.end(here.handler, t.Context(), mark); err != nil {
			t.Fatal(err)
		}
		mine.WantClose(test.code)
		theirs.WantClose(test.code)
		classic.WantClose(test.code)
		other.Send(`{"action":"unsubscribe","ref":7,"body":{"entity":"items","id":"1"}}`)
		other.WantReply("ack 7")
		other.Close()
		back := join(there, mark) // since then: not meant
		back.Close()
		testkit.Until(t, "all are gone", func() bool { return here.bridge.Stats().Clients+there.bridge.Stats().Clients == 0 })
	}
	for len(said) > 0 {
		if text := <-said; containsCanary(text) {
			t.Errorf("the bus carries the secret: %s", text)
		}
	}
	c := join(here, mark+"me")
	c.Send(`{"action":"subscribe","ref":1,"body":{"entity":"es.sessions","id":"again"}}`)
	c.WantReply("error 1 es.sessions again unknown_entity")
}

// Without the bus the sessions of this node end all the same, and who asked is told
// that others may go on.
func TestRevokeWithoutTheBus(t *testing.T) {
	s := start(t, web.Config{}, echo)
	c := s.dialV2(t)
	c.Send(`{"action":"secret","body":"` + mark + `"}`)
	c.WantReply("ack")
	s.broker.SetDown(true)
	err := s.handler.Revoke(t.Context(), mark)
	if t.Log(err); !errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("Revoke returned %v, want ErrUnavailable", err)
	}
	c.WantClose(wire.CloseRevoked)
}

func TestRubbishOnTheSessionsTopicIsIgnored(t *testing.T) {
	s := start(t, web.Config{}, echo)
	c := s.dialV2(t)
	c.Send(`{"action":"secret","body":"` + mark + `me"}`)
	c.WantReply("ack")
	for _, id := range []string{"x", "close", "close 4503 x", "close 4503 x y", "close 1 x 1", "close 4503 x 1 2", "again"} {
		if err := s.bridge.Publish(t.Context(), "es.sessions", id); err != nil {
			t.Fatal(err)
		}
	}
	c.Send(`{"action":"unsubscribe","ref":7,"body":{"entity":"items","id":"1"}}`)
	c.WantReply("ack 7")
}

// Texts on a topic are audited as changes are.
func TestAMissedTextIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var broker membus.Broker
		deaf := &muffled{Bus: broker.NewNode()}
		from, err := bridge.New(bridge.Config{Bus: broker.NewNode()})
		if err != nil {
			t.Fatal(err)
		}
		to, err := bridge.New(bridge.Config{Bus: deaf})
		if err != nil {
			t.Fatal(err)
		}
		var heard, missed atomic.Int64
		topic := bridge.Topic{Message: func(string) { heard.Add(1) }, Gap: func() { missed.Add(1) }}
		for range 2 { // both of two listeners
			if err := to.RegisterTopic("topic", topic); err != nil {
				t.Fatal(err)
			}
		}
		if err := from.RegisterTopic("topic", bridge.Topic{Message: func(string) {}, Gap: func() {}}); err != nil {
			t.Fatal(err)
		}
		if err := to.Register("topic", echo, bridge.EntityOptions{}); err == nil {
			t.Error("a topic is registered as an entity type as well")
		}
		tell := func() {
			if err := from.Publish(t.Context(), "topic", "text"); err != nil {
				t.Fatal(err)
			}
		}
		tell()
		time.Sleep(time.Minute)
		if heard.Load() != 2 || missed.Load() != 1 { // the first listener, when the topic was joined
			t.Errorf("heard %d and missed %d, want 2 and 1", heard.Load(), missed.Load())
		}
		deaf.set(true)
		tell()
		deaf.set(false)
		time.Sleep(time.Minute)
		if heard.Load() != 2 || missed.Load() != 3 {
			t.Errorf("heard %d and missed %d after a loss, want 2 and 3", heard.Load(), missed.Load())
		}
		for _, b := range []*bridge.Bridge{from, to} {
			if err := b.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
}

// A client whose secret was found good just before it was withdrawn does not slip
// in: at the upgrade, or while it changes its secret.
func TestRevokeCatchesWhoIsBeingLetIn(t *testing.T) {
	asked, goOn := make(chan bool), make(chan bool)
	s := start(t, web.Config{
		Authenticate: func(r *http.Request) (string, time.Time, error) {
			if r.Header.Get("Cookie") != "" {
				asked <- true
				<-goOn
			}
			return r.Header.Get("Cookie"), time.Time{}, nil
		},
		VerifySecret: func(context.Context, string) (time.Time, error) { return time.Time{}, nil },
		Authorize: func(_ context.Context, a shared.AccessRequest) error {
			if a.Secret == shared.NewSecret(mark+"said") {
				asked <- true
				<-goOn
			}
			return nil
		},
	}, echo)
	revoke := func(secret string) {
		<-asked
		if err := s.handler.Revoke(context.Background(), secret); err != nil {
			t.Error(err)
		}
		goOn <- true
	}
	go revoke(mark + "cookie")
	s.dialWith(t, http.Header{"Cookie": {mark + "cookie"}}).WantClose(wire.CloseRevoked)

	c := s.dialV2(t)
	c.Send(`{"action":"subscribe","body":{"entity":"items","id":"1","snapshot":false}}`)
	c.WantReply("ack")
	c.Send(`{"action":"secret","body":"` + mark + `said"}`)
	revoke(mark + "said")
	for {
		_, _, err := c.ReadMessage()
		if err == nil {
			continue // the answer
		}
		if !websocket.IsCloseError(err, wire.CloseRevoked) {
			t.Errorf("it ends with %v", err)
		}
		break
	}
}

// Each client has the empty secret until it says another: an order about that one would
// send everybody away who comes, also one that another node gives.
func TestTheEmptySecretIsNobodysToRevoke(t *testing.T) {
	here := start(t, web.Config{}, echo)
	if err := here.handler.Revoke(t.Context(), ""); err == nil {
		t.Error("the empty secret was revoked")
	}
	if err := here.handler.Disconnect(t.Context(), ""); err == nil {
		t.Error("the empty secret was disconnected")
	}
	sum := sha256.Sum256([]byte("entity-sync session\x00"))
	order := func(digest string) {
		if err := here.bridge.Publish(t.Context(), "es.sessions", fmt.Sprintf("close 4410 %s %d", digest, time.Now().Add(time.Hour).UnixNano())); err != nil {
			t.Fatal(err)
		}
	}
	first, other := here.dialV2(t), here.dialV2(t)
	other.Send(`{"action":"secret","body":"` + mark + `"}`)
	other.WantReply("ack")
	order(base64.RawURLEncoding.EncodeToString(sum[:]))
	sum = sha256.Sum256([]byte("entity-sync session\x00" + mark))
	order(base64.RawURLEncoding.EncodeToString(sum[:]))
	other.WantClose(wire.CloseDisconnected) // so both were heard
	for _, c := range []*conn{first, here.dialV2(t)} {
		c.Send(`{"action":"subscribe","body":{"entity":"items","id":"1"}}`)
		c.WantReply("ack")
		c.WantReply(`update items 1 {"id":"1","for":""}`)
	}
}

// An application may take the name of an entity type from a request: that must not give
// orders.
func TestNotifyGivesNoOrders(t *testing.T) {
	s := start(t, web.Config{}, echo)
	said := make(spy, 100)
	if err := s.broker.NewNode().Subscribe("es.sessions", said); err != nil {
		t.Fatal(err)
	}
	key := shared.EntityKey{Entity: "es.sessions", ID: "close 4503 x 1"}
	if err := s.bridge.Notify(t.Context(), key, shared.EntityKey{Entity: items, ID: "1"}); !errors.Is(err, shared.ErrUnknownEntity) {
		t.Errorf("Notify returned %v", err)
	}
	if err := s.bridge.Publish(t.Context(), items, "1"); !errors.Is(err, shared.ErrUnknownEntity) {
		t.Errorf("Publish of an entity type returned %v", err)
	}
	// A process without sessions knows nothing of the topic, and must not announce on it.
	alone, err := bridge.New(bridge.Config{Bus: s.broker.NewNode(), Logger: canary.Logger(canary.Output(t))})
	if err != nil {
		t.Fatal(err)
	}
	defer alone.Close(context.Background())
	if err := alone.Announce("es.sessions"); !errors.Is(err, shared.ErrBadEntity) {
		t.Errorf("Announce returned %v", err)
	}
	if err := alone.Register("es.sessions", echo, bridge.EntityOptions{}); !errors.Is(err, shared.ErrBadEntity) {
		t.Errorf("Register returned %v", err)
	}
	if err := alone.Notify(t.Context(), key); !errors.Is(err, shared.ErrUnknownEntity) {
		t.Errorf("Notify where nothing is announced returned %v", err)
	}
	if err := s.handler.Revoke(t.Context(), mark); err != nil {
		t.Fatal(err)
	}
	for text := range said { // all of the above would have come before it
		if strings.Contains(text, key.ID) {
			t.Fatalf("the bus carries %s", text)
		}
		if strings.Contains(text, "close") {
			return
		}
	}
}
