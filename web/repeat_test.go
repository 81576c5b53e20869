package web

import (
	"context"
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
	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/testkit/socket"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/wire"
)

// stuckBus acknowledges nothing of several orders in one message until it is let go.
type stuckBus struct {
	bus.Bus
	stuck chan struct{} // is told of each such message
	letGo chan struct{}
}

func (b *stuckBus) Publish(ctx context.Context, entity shared.EntityType, body []byte) error {
	if strings.Count(string(body), "close ") > 1 {
		b.stuck <- struct{}{}
		<-b.letGo
	}
	return b.Bus.Publish(ctx, entity, body)
}

// While a node repeats what it has given, and the bus takes its time for that, orders that
// are given there, and those that come from other nodes, are carried out.
func TestOrdersAreCarriedOutWhileOthersAreRepeated(t *testing.T) {
	var broker membus.Broker
	const given = 1000
	bus := &stuckBus{Bus: broker.NewNode(), stuck: make(chan struct{}, given), letGo: make(chan struct{})}
	here, there := startClocked(t, bus), startClocked(t, broker.NewNode())
	letGo := func() {
		select {
		case <-bus.letGo:
		default:
			close(bus.letGo)
		}
	}
	t.Cleanup(letGo)
	for i := range given {
		if err := here.handler.Revoke(t.Context(), fmt.Sprint(canary.Mark, i)); err != nil {
			t.Fatal(err)
		}
	}
	mine, moved, theirs := here.join(t, canary.Mark+"mine"), here.join(t, canary.Mark+"moved"), here.join(t, canary.Mark+"theirs")
	if err := there.bridge.Publish(t.Context(), sessionsTopic, "again"); err != nil {
		t.Fatal(err)
	}
	<-bus.stuck

	told := make(chan error, 2)
	go func() { told <- here.handler.Revoke(context.Background(), canary.Mark+"mine") }()
	mine.wantClose(wire.CloseRevoked)
	go func() { told <- here.handler.Disconnect(context.Background(), canary.Mark+"moved") }()
	moved.wantClose(wire.CloseDisconnected)
	if err := there.handler.Revoke(t.Context(), canary.Mark+"theirs"); err != nil {
		t.Fatal(err)
	}
	theirs.wantClose(wire.CloseRevoked)
	letGo()
	for range cap(told) {
		<-told // an error where the bus was stuck for too long
	}
}

// Who was asked about before an order was given that the node missed does not slip in, even
// where nobody else is there.
func TestWhoIsBeingLetInWhileAnOrderIsMissedIsSentAway(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprint("the node hears of it before the answer: ", late), func(t *testing.T) {
			asked, goOn := make(chan struct{}), make(chan struct{})
			var broker membus.Broker
			bus := &deafBus{Bus: broker.NewNode(), deaf: make(chan bool, 1)}
			far := startClocked(t, broker.NewNode())
			near := startClockedWith(t, bus, Config{Authenticate: func(*http.Request) (string, time.Time, error) {
				asked <- struct{}{}
				<-goOn
				return canary.Mark + "withdrawn", time.Time{}, nil
			}})
			conns := make(chan *websocket.Conn, 1)
			go func() {
				conn, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(near.URL, "http"), http.Header{"Sec-WebSocket-Protocol": {wire.SubprotocolV2}})
				if err != nil {
					t.Error(err)
				}
				conns <- conn
			}()
			<-asked
			bus.deaf <- true
			if err := far.handler.Revoke(t.Context(), canary.Mark+"withdrawn"); err != nil {
				t.Error(err)
			}
			near.clock.set(time.Minute)
			far.clock.set(time.Minute)
			<-bus.deaf
			live := func() {
				for _, l := range bus.listeners {
					l.Live()
				}
			}
			if live(); late {
				for patience := time.Now().Add(30 * time.Second); near.handler.revocations.Known() == 0 && time.Now().Before(patience); {
					time.Sleep(time.Millisecond)
				}
			}
			goOn <- struct{}{}
			conn := <-conns
			if conn == nil {
				return
			}
			defer conn.Close()
			(&comer{socket.On(t, conn), t}).wantClose(wire.CloseRevoked)
		})
	}
}

// sickBus refuses the next messages that have a text in them. It loses beats, from which a
// node would notice.
type sickBus struct {
	bus.Bus
	text   string
	tries  chan time.Time
	refuse atomic.Int64
}

func (b *sickBus) Publish(ctx context.Context, entity shared.EntityType, body []byte) error {
	if !strings.Contains(string(body), `"id`) {
		return nil
	}
	if strings.Contains(string(body), b.text) {
		b.tries <- time.Now()
		if b.refuse.Add(-1) >= 0 {
			return errors.New("the bus is sick")
		}
	}
	return b.Bus.Publish(ctx, entity, body)
}

// What a node asks others, and what it repeats to them, is said again until it gets
// through, twice a second at most. With nobody there a node asks nothing.
func TestWhatDoesNotGetThroughIsSaidAgain(t *testing.T) {
	const sick = 7
	for _, text := range []string{"again", "close"} {
		t.Run(text, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var broker membus.Broker
				bus := &sickBus{Bus: broker.NewNode(), text: text, tries: make(chan time.Time, 1000)}
				deaf := &deafBus{Bus: bus} // for its listeners
				b, err := bridge.New(bridge.Config{Bus: deaf, Logger: canary.Logger(canary.Output(t))})
				if err != nil {
					t.Fatal(err)
				}
				h, err := New(Config{Bridge: b, Logger: canary.Logger(canary.Output(t))})
				if err != nil {
					t.Fatal(err)
				}
				said := make(earful, 1000)
				spy := broker.NewNode()
				if err := spy.Subscribe(sessionsTopic, said); err != nil {
					t.Fatal(err)
				}
				heard := func() (n int) {
					for len(said) > 0 {
						if strings.Contains(<-said, text) {
							n++
						}
					}
					return n
				}
				missed := func() {
					for _, l := range deaf.listeners {
						l.Live()
					}
					synctest.Wait()
				}
				missed()
				if text == "close" {
					if err := h.Revoke(t.Context(), canary.Mark); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(time.Second)
				if n := heard(); text == "again" && n > 0 {
					t.Errorf("a node where nobody is asked %d times", n)
				}

				bus.refuse.Store(sick)
				for len(bus.tries) > 0 {
					<-bus.tries
				}
				if text == "again" {
					if _, full := h.takePlace("client"); full {
						t.Fatal("there is no place")
					}
					missed()
					defer h.release("client")
				} else if err := spy.Publish(t.Context(), sessionsTopic, []byte(`{"entity":"es.sessions","id":"again"}`)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				if n := heard(); n == 0 {
					t.Errorf("%q was said %d times, and did not get through", text, len(bus.tries))
				}
				// Once more or twice, because the node misses the numbers of what was refused.
				if n := len(bus.tries); n <= sick || n > sick+5 {
					t.Errorf("%q was said %d times, of which %d were refused", text, n, sick)
				}
				var last time.Time
				for len(bus.tries) > 0 {
					at := <-bus.tries
					if at.Sub(last) < 500*time.Millisecond {
						t.Errorf("%q was said twice in %v", text, at.Sub(last))
					}
					last = at
				}
				if err := errors.Join(h.Close(t.Context()), b.Close(t.Context()), spy.Close(t.Context())); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
