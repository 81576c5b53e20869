package web

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"pgregory.net/rapid"

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
			secret := canary.Mark + "moved"
			here, there := nodes[0].join(t, secret), nodes[1].join(t, secret)
			if err := nodes[0].handler.Disconnect(t.Context(), secret); err != nil {
				t.Fatal(err)
			}
			here.wantClose(wire.CloseDisconnected)
			there.wantClose(wire.CloseDisconnected)
			here, there = nodes[1].join(t, secret), nodes[0].join(t, secret)

			// Orders are repeated, by whoever has given some, and delivered again.
			nodes[0].handler.orders.mu.Lock()
			same := nodes[0].handler.orders.given[0].order
			nodes[0].handler.orders.mu.Unlock()
			for _, text := range []string{again, same.text(), again} {
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

// What a node remembers of orders is bounded, and what cannot be one is not remembered at
// all. Who was being let in while more came than are remembered has to come again.
func TestOrdersAreRememberedWithinBounds(t *testing.T) {
	for _, text := range []string{
		strings.Repeat("x", 1<<20), "close 4503 " + strings.Repeat("A", 1<<20) + " id", "close 4503 x id", "close 4503",
		strings.Replace(newOrder(wire.CloseRevoked, canary.Mark).text(), "4503", "4501", 1),
		newOrder(wire.CloseRevoked, canary.Mark).text() + strings.Repeat("x", maxOrderID), newOrder(wire.CloseRevoked, canary.Mark).text() + " -1",
		newOrder(wire.CloseRevoked, canary.Mark).text() + " 1 1", newOrder(wire.CloseRevoked, "").text(), newOrder(wire.CloseRevoked, canary.Mark).text() + " 9223372036854775807",
	} {
		if _, err := parseOrder(text); err == nil {
			t.Errorf("%.80q is taken for an order", text)
		}
	}
	var o orders
	now := time.Now()
	before := o.beginning()
	for i := range maxOrders + maxOrders/2 {
		code := wire.CloseRevoked
		if i%2 == 0 {
			code = wire.CloseDisconnected
		}
		order := order{subject: subject{digest{byte(i), byte(i >> 8)}, code}, id: fmt.Sprint(i)} // quickly made
		if o.hearLocked(order, now) {
			t.Fatal("there is something to do for an order about nobody")
		}
		o.giveLocked(order, now)
	}
	if len(o.known) != maxOrders || len(o.reaches) != maxOrders || len(o.ring) != maxOrders || len(o.given) != maxOrders || len(o.pending) != 0 {
		t.Errorf("%d ids, %d subjects, %d in the ring, %d given, %d pending", len(o.known), len(o.reaches), len(o.ring), len(o.given), len(o.pending))
	}
	d := digestOf(shared.NewSecret(canary.Mark))
	if code := o.verdictLocked(d, before); code != wire.CloseDisconnected {
		t.Errorf("who has waited for so long is sent away with %d", code)
	}
	if code := o.verdictLocked(digestOfNone, before); code != 0 {
		t.Errorf("who has said no secret is sent away with %d", code)
	}
	if code := o.verdictLocked(d, o.beginning()); code != 0 {
		t.Errorf("who comes now is sent away with %d", code)
	}
	given := o.given
	o.giveLocked(newOrder(wire.CloseRevoked, "later"), now.Add(repeatFor))
	if len(o.given) != 1 || len(given) != maxOrders {
		t.Errorf("%d orders are repeated after %v", len(o.given), repeatFor)
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
			if err := b.Publish(t.Context(), sessionsTopic, again); err != nil {
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

// Clients come, are let in at once or later, change their secrets and leave while orders
// are given, heard at once or later, heard twice and repeated: who began before an order was
// given is ended, and nobody else.
func TestOrdersAtRandom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &ordersModel{given: make(map[string]time.Time)}
		m.o.clock = m.clock.now
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				for i, p := range m.people {
					if p.in && p.ended != p.doomed {
						t.Fatalf("client %d of %d is sent away: %v, want %v", i, len(m.people), p.ended, p.doomed)
					}
				}
			},
			"come": func(t *rapid.T) {
				p := &person{s: new(session)}
				m.begin(t, p)
				m.people = append(m.people, p)
			},
			"enter": func(t *rapid.T) {
				if p := m.pick(t); !p.in {
					p.in = true
					m.enlist(p)
				}
			},
			"change": func(t *rapid.T) {
				if p := m.pick(t); p.in && !p.ended {
					m.begin(t, p)
					m.enlist(p)
				}
			},
			"leave": func(t *rapid.T) {
				p := m.pick(t)
				m.o.leaveLocked(p.s)
				m.people = slices.DeleteFunc(m.people, func(o *person) bool { return o == p })
			},
			"order": func(t *rapid.T) {
				m.clock.set(time.Millisecond)
				code := rapid.SampledFrom([]int{wire.CloseRevoked, wire.CloseDisconnected}).Draw(t, "code")
				order := newOrder(code, rapid.SampledFrom(secrets).Draw(t, "secret"))
				m.given[order.id] = m.clock.now()
				m.orders = append(m.orders, order)
				if rapid.Bool().Draw(t, "heard at once") {
					m.hear(order, m.given[order.id])
				}
			},
			"repeat": func(t *rapid.T) {
				if len(m.orders) == 0 {
					t.Skip("none was given")
				}
				order := rapid.SampledFrom(m.orders).Draw(t, "order")
				m.clock.set(time.Millisecond)
				now := m.clock.now()
				order.age = now.Sub(m.given[order.id]).Truncate(time.Microsecond)
				m.hear(order, now)
			},
			"wait": func(*rapid.T) { m.clock.set(time.Hour) },
		})
	})
}

var secrets = []string{canary.Mark + "a", canary.Mark + "b"}

// ordersModel is one node, and what should become of its clients.
type ordersModel struct {
	o      orders
	clock  wallClock
	people []*person
	orders []order
	given  map[string]time.Time // when, by id
}

type person struct {
	s      *session
	from   time.Time // when the application was asked
	in     bool
	doomed bool // an order about it was given since then, and heard
	ended  bool // what came of it
}

func (m *ordersModel) pick(t *rapid.T) *person {
	if len(m.people) == 0 {
		t.Skip("nobody is there")
	}
	return rapid.SampledFrom(m.people).Draw(t, "who")
}

// begin has the application asked about a secret.
func (m *ordersModel) begin(t *rapid.T, p *person) {
	m.clock.set(time.Millisecond)
	secret := shared.NewSecret(rapid.SampledFrom(secrets).Draw(t, "secret"))
	p.s.identity = identity{secret: secret, since: m.o.beginning()}
	p.from, p.doomed = m.clock.now(), false
}

func (m *ordersModel) enlist(p *person) {
	d := digestOf(p.s.identity.secret)
	m.o.enterLocked(p.s, d)
	p.ended = m.o.verdictLocked(d, p.s.identity.since) != 0
}

func (m *ordersModel) hear(order order, now time.Time) {
	if _, again := m.o.known[order.id]; !again {
		for _, p := range m.people {
			if digestOf(p.s.identity.secret) == order.digest && !p.from.After(m.given[order.id]) {
				p.doomed = true
			}
		}
	}
	m.o.hearLocked(order, now)
	due, _ := m.o.dueLocked(now.Add(time.Hour))
	for about, r := range due {
		for s := m.o.bySecret[about.digest.part()]; s != nil; s = s.place.next {
			for _, p := range m.people {
				p.ended = p.ended || p.s == s && digestOf(s.identity.secret) == about.digest && r.covers(s.identity.since)
			}
		}
	}
}
