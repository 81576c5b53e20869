package bridge_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/shared"
)

// mortal is a bridge that is to leave nothing behind, and its only client.
type mortal struct {
	t      *testing.T
	broker membus.Broker
	bus    *talkative
	bridge *bridge.Bridge
	screen *screen
	fetch  shared.Fetcher // as it is now

	keepsClient bool // which nobody closes
}

// talkative is a bus on which something happens while it is being left.
type talkative struct {
	bus.Bus
	listener bus.Listener
	closing  func() // called before Close
	beating  func() // called before Publish
}

func (b *talkative) Subscribe(entity shared.EntityType, l bus.Listener) error {
	b.listener = l
	return b.Bus.Subscribe(entity, l)
}

func (b *talkative) Publish(ctx context.Context, entity shared.EntityType, body []byte) error {
	if b.beating != nil {
		b.beating()
	}
	return b.Bus.Publish(ctx, entity, body)
}

func (b *talkative) Close(ctx context.Context) error {
	if b.closing != nil {
		b.closing()
	}
	return b.Bus.Close(ctx)
}

func fine(context.Context, shared.EntityKey, string) ([][]byte, error) {
	return [][]byte{[]byte("row")}, nil
}

func broken(context.Context, shared.EntityKey, string) ([][]byte, error) {
	return nil, errors.New("broken")
}

var aHole = []byte(`{"entity":"items","id":"1","from":"somebody","seq":7}`)

// A timer that runs keeps what it is for. So what is let go of has none left.
func TestNoTimerOutlivesABridge(t *testing.T) {
	for name, live := range map[string]func(m *mortal){
		"nothing": func(*mortal) {},
		"a fetch that failed": func(m *mortal) {
			m.fetch = broken
			m.screen.subscribe(m.t, key, withSnapshot)
		},
		"a fetch that failed, and was tried again for news": func(m *mortal) {
			m.fetch = broken
			m.screen.subscribe(m.t, key, withSnapshot)
			synctest.Wait()
			m.fetch = fine
			m.notify()
		},
		"a fetch that is cut off": func(m *mortal) {
			m.fetch, m.keepsClient = hang, true
			m.screen.subscribe(m.t, key, withSnapshot)
		},
		"a number that is missing": func(m *mortal) { m.bus.listener.Message(aHole) },
		"a number that is found to be missing at the last moment": func(m *mortal) {
			m.bus.closing = func() { m.bus.listener.Message(aHole) }
		},
		"repairs that wait": func(m *mortal) {
			m.screen.subscribe(m.t, key, bridge.SubscribeOptions{})
			m.screen.subscribe(m.t, other, bridge.SubscribeOptions{})
			m.miss()
		},
		"a repair that must wait at the last moment": func(m *mortal) {
			g := newGate()
			m.fetch, m.keepsClient = g.fetch, true
			m.screen.subscribe(m.t, key, bridge.SubscribeOptions{})
			m.notify()
			<-g.entered
			m.miss()
			g.release <- row("row")
			<-g.entered // now for the repair
			m.bus.beating = func() {
				m.miss()
				g.release <- row("row")
				synctest.Wait()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				left := die(t, live)
				runtime.GC() // time stands still meanwhile: no timer ends by itself
				if left.Value() != nil {
					t.Error("something holds it")
				}
			})
		})
	}
}

func (m *mortal) notify() {
	m.t.Helper()
	if err := m.bridge.Notify(m.t.Context(), key); err != nil {
		m.t.Fatal(err)
	}
}

// miss has everything looked at again.
func (m *mortal) miss() {
	m.broker.SetDown(true)
	m.broker.SetDown(false)
}

// die makes a bridge, lets it live, and closes it.
func die(t *testing.T, live func(*mortal)) weak.Pointer[bridge.Bridge] {
	t.Helper()
	m := &mortal{t: t, fetch: fine, screen: &screen{out: t.Output(), news: make(chan struct{}, 1)}}
	m.bus = &talkative{Bus: m.broker.NewNode()}
	var err error
	if m.bridge, err = bridge.New(bridge.Config{Bus: m.bus, Grace: time.Hour, Logger: canary.Logger(canary.Output(t))}); err != nil {
		t.Fatal(err)
	}
	fetch := func(ctx context.Context, k shared.EntityKey, secret string) ([][]byte, error) {
		return m.fetch(ctx, k, secret)
	}
	err = m.bridge.Register(items, fetch, bridge.EntityOptions{
		Retry: bridge.Retry{Min: time.Hour, Max: time.Hour}, ResyncRate: 1, Timeout: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	m.screen.Client = m.bridge.NewClient(m.screen, bridge.ClientOptions{Secret: shared.NewSecret(mark)})
	live(m)
	synctest.Wait()
	if !m.keepsClient {
		m.screen.Client.Close()
	}
	if err := m.bridge.Close(t.Context()); err != nil {
		t.Error(err)
	}
	return weak.Make(m.bridge)
}
