package web

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/socket"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/wire"
)

// clocked is a node whose clock can be set.
type clocked struct {
	*httptest.Server
	handler *Handler
	bridge  *bridge.Bridge
	clock   wallClock
}

func startClocked(t *testing.T, bus bus.Bus) *clocked {
	t.Helper()
	return startClockedWith(t, bus, Config{})
}

func startClockedWith(t *testing.T, bus bus.Bus, config Config) *clocked {
	t.Helper()
	n := new(clocked)
	logger := canary.Logger(canary.Output(t))
	var err error
	if n.bridge, err = bridge.New(bridge.Config{Bus: canary.Tap(canary.Output(t), bus), Logger: logger}); err != nil {
		t.Fatal(err)
	}
	config.Bridge, config.Logger = n.bridge, logger
	if n.handler, err = newBy(config, n.clock.now); err != nil {
		t.Fatal(err)
	}
	n.Server = httptest.NewServer(n.handler)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := errors.Join(n.handler.Close(ctx), n.bridge.Close(ctx)); err != nil {
			t.Error(err)
		}
		n.Server.Close()
	})
	return n
}

// comer is a client that has a secret.
type comer struct {
	*socket.Conn
	t *testing.T
}

func (n *clocked) join(t *testing.T, secret string) *comer {
	t.Helper()
	c := &comer{socket.DialV2(t, n.URL), t}
	c.Send(`{"action":"secret","ref":1,"body":%q}`, secret)
	c.WantReply("ack 1")
	return c
}

// isThere has something answered: the node has not sent the client away.
func (c *comer) isThere() {
	c.t.Helper()
	c.Send(`{"action":"unsubscribe","ref":2,"body":{"entity":"items","id":"1"}}`)
	c.WantReply("ack 2")
}

// wantClose checks that nothing is said before the end of the session.
func (c *comer) wantClose(code int) {
	c.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(testkit.Patience))
	if _, _, err := c.ReadMessage(); !websocket.IsCloseError(err, code) {
		c.t.Fatalf("the session ended with %v, want code %d", err, code)
	}
}

// hours by which the clock of either of two nodes is ahead of the other's.
var skews = [][2]time.Duration{{}, {time.Hour, 0}, {0, time.Hour}, {-time.Hour, time.Hour}}

// Whatever the clocks of two nodes say, and however often the order is heard, the sessions
// there were are ended once, and those who have come since are not.
func TestOrdersGoByNoClocks(t *testing.T) {
	for _, skew := range skews {
		t.Run(fmt.Sprint(skew), func(t *testing.T) {
			var broker membus.Broker
			nodes := [2]*clocked{startClocked(t, broker.NewNode()), startClocked(t, broker.NewNode())}
			for i, n := range nodes {
				n.clock.set(skew[i])
			}
			said, spy := make(earful, 1000), broker.NewNode()
			if err := spy.Subscribe(sessionsTopic, said); err != nil {
				t.Fatal(err)
			}
			defer spy.Close(context.Background())
			secret := canary.Mark + "moved"
			here, there := nodes[0].join(t, secret), nodes[1].join(t, secret)
			for len(said) > 0 {
				<-said
			}
			if err := nodes[0].handler.Disconnect(t.Context(), secret); err != nil {
				t.Fatal(err)
			}
			here.wantClose(wire.CloseDisconnected)
			there.wantClose(wire.CloseDisconnected)
			here, there = nodes[1].join(t, secret), nodes[0].join(t, secret)

			// Revocations are repeated, by those who have given some, and delivered again.
			same := regexp.MustCompile(`close \d+ \S+ [A-Z2-7]+`).FindString(<-said)
			for _, text := range []string{"again", same, "again"} {
				if err := nodes[1].bridge.Publish(t.Context(), sessionsTopic, text); err != nil {
					t.Fatal(err)
				}
			}
			bad := nodes[0].join(t, canary.Mark+"bad")
			if err := nodes[1].handler.Revoke(t.Context(), canary.Mark+"bad"); err != nil {
				t.Fatal(err)
			}
			bad.wantClose(wire.CloseRevoked)
			here.isThere()
			there.isThere()

			// The clocks are set while sessions last, which are ended all the same.
			nodes[0].clock.set(-2 * time.Hour)
			nodes[1].clock.set(-3 * time.Hour)
			if err := nodes[1].handler.Revoke(t.Context(), secret); err != nil {
				t.Fatal(err)
			}
			here.wantClose(wire.CloseRevoked)
			there.wantClose(wire.CloseRevoked)
		})
	}
}

// deafBus is a bus on which nothing is heard for a while.
type deafBus struct {
	bus.Bus
	deaf      chan bool // has a value while it is deaf
	listeners []bus.Listener
}

func (b *deafBus) Subscribe(entity shared.EntityType, l bus.Listener) error {
	b.listeners = append(b.listeners, l)
	return b.Bus.Subscribe(entity, deafListener{l, b.deaf})
}

type deafListener struct {
	bus.Listener
	deaf chan bool
}

func (l deafListener) Message(body []byte) {
	if len(l.deaf) == 0 {
		l.Listener.Message(body)
	}
}

// A node that was cut off when orders were given hears of them when it is back, and
// spares those who have come after that, whatever the clocks say.
func TestANodeThatMissedARevocationHearsOfItLater(t *testing.T) {
	for _, skew := range skews {
		t.Run(fmt.Sprint(skew), func(t *testing.T) {
			var broker membus.Broker
			bus := &deafBus{Bus: broker.NewNode(), deaf: make(chan bool, 1)}
			nodes := [2]*clocked{startClocked(t, broker.NewNode()), startClocked(t, bus)}
			for i, n := range nodes {
				n.clock.set(skew[i])
			}
			secret := canary.Mark + "withdrawn"
			old := nodes[1].join(t, secret)
			bus.deaf <- true
			if err := nodes[0].handler.Revoke(t.Context(), secret); err != nil {
				t.Fatal(err)
			}
			for _, n := range nodes {
				n.clock.set(5 * time.Minute) // go by
			}
			young := nodes[1].join(t, secret)
			<-bus.deaf
			for _, l := range bus.listeners {
				l.Live()
			}
			old.wantClose(wire.CloseRevoked)
			young.isThere()
		})
	}
}

// However often nodes are asked to repeat orders, they do so twice a second at most, each
// order once, and many in one message.
func TestRepeatingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var broker membus.Broker
		b, err := bridge.New(bridge.Config{Bus: broker.NewNode(), Logger: canary.Logger(canary.Output(t))})
		if err != nil {
			t.Fatal(err)
		}
		h, err := New(Config{Bridge: b, Logger: canary.Logger(canary.Output(t))})
		if err != nil {
			t.Fatal(err)
		}
		const orders = 500
		for i := range orders {
			if err := h.Revoke(t.Context(), fmt.Sprint(canary.Mark, i)); err != nil {
				t.Fatal(err)
			}
		}
		said := make(earful, 100_000)
		spy := broker.NewNode()
		if err := spy.Subscribe(sessionsTopic, said); err != nil {
			t.Fatal(err)
		}
		for range 3000 {
			if err := b.Publish(t.Context(), sessionsTopic, "again"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		messages, repeated := 0, 0
		for len(said) > 0 {
			if text := <-said; strings.Contains(text, "close") {
				messages++
				repeated += strings.Count(text, "close")
			}
		}
		if rounds := repeated / orders; repeated%orders != 0 || rounds < 6 || rounds > 8 || messages > 8*rounds {
			t.Errorf("asked 3,000 times in 3 s a node repeats %d orders %d times in all, in %d messages", orders, repeated, messages)
		}
		if err := errors.Join(h.Close(t.Context()), b.Close(t.Context()), spy.Close(t.Context())); err != nil {
			t.Error(err)
		}
	})
}

// earful is what is heard on a topic.
type earful chan string

func (e earful) Message(b []byte) { e <- string(b) }
func (e earful) Live()            {}
func (e earful) Lost(error)       {}
