package bridge_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const items shared.EntityType = "items"

var key = shared.EntityKey{Entity: items, ID: "100"}

// mark is in all secrets, so that one which gets out is found.
const mark = canary.Mark

const patience = testkit.Patience

// node is a Bridge on an in-memory broker, with everything it logged.
type node struct {
	*bridge.Bridge
	broker *membus.Broker
	log    *testkit.Buffer
	out    io.Writer // takes what is to be searched
}

func newNode(t testing.TB, broker *membus.Broker) *node {
	t.Helper()
	return newNodeWith(t, broker, bridge.Config{})
}

// newNodeWith takes a configuration without a Logger, and perhaps without a Bus.
func newNodeWith(t testing.TB, broker *membus.Broker, c bridge.Config) *node {
	t.Helper()
	return newNodeThatWrites(t, canary.Output(t), broker, c)
}

// newNodeThatWrites has the node write to out what it logs and publishes.
func newNodeThatWrites(t testing.TB, out io.Writer, broker *membus.Broker, c bridge.Config) *node {
	t.Helper()
	n := &node{broker: broker, log: &testkit.Buffer{}, out: out}
	c.Logger = canary.Logger(n.log, out)
	if c.Bus == nil {
		c.Bus = broker.NewNode()
	}
	c.Bus = canary.Tap(out, c.Bus)
	var err error
	n.Bridge, err = bridge.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := n.Close(ctx); err != nil {
			t.Errorf("closing the bridge: %v", err)
		}
	})
	return n
}

// Notify is the Bridge's. Its error is an output like any other.
func (n *node) Notify(ctx context.Context, keys ...shared.EntityKey) error {
	err := n.Bridge.Notify(ctx, keys...)
	if err != nil {
		fmt.Fprintln(n.out, "Notify:", err)
	}
	return err
}

func (n *node) register(t testing.TB, fetch shared.Fetcher, o bridge.EntityOptions) {
	t.Helper()
	if err := n.Register(items, fetch, o); err != nil {
		t.Fatal(err)
	}
}

func (n *node) notify(t testing.TB, keys ...shared.EntityKey) {
	t.Helper()
	if err := n.Notify(context.Background(), keys...); err != nil {
		t.Fatal(err)
	}
}

// table is a database: the rows of a key are its revision and whose eyes see it.
type table struct {
	mu      sync.Mutex
	rev     map[shared.EntityKey]int
	fetches int
}

func (d *table) write(k shared.EntityKey) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.rev == nil {
		d.rev = map[shared.EntityKey]int{}
	}
	d.rev[k]++
}

func (d *table) fetch(_ context.Context, k shared.EntityKey, secret string) ([][]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fetches++
	return [][]byte{d.row(k, secret)}, nil
}

func (d *table) row(k shared.EntityKey, secret string) []byte {
	return fmt.Appendf(nil, `{"id":%q,"rev":%d,"for":%q}`, k.ID, d.rev[k], secret)
}

func (d *table) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fetches
}

// screen is a client that reads at once and remembers what it saw.
type screen struct {
	*bridge.Client
	out   io.Writer
	mu    sync.Mutex
	seen  []*bridge.Update
	told  []string      // see story
	stale int           // of its subscriptions
	news  chan struct{} // one value when something was seen since it was last read
}

// newScreen connects a client whose secret is the mark and name.
func newScreen(n *node, name string) *screen {
	s := &screen{out: n.out, news: make(chan struct{}, 1)}
	s.Client = n.NewClient(s, bridge.ClientOptions{Secret: shared.NewSecret(mark + name)})
	return s
}

// Subscribe is the Client's. Its error is an output like any other.
func (s *screen) Subscribe(k shared.EntityKey, o bridge.SubscribeOptions) error {
	err := s.Client.Subscribe(k, o)
	if err != nil {
		fmt.Fprintln(s.out, "Subscribe:", err)
	}
	return err
}

// become makes its secret the mark and name.
func (s *screen) become(name string) { s.SetSecret(mark + name) }

func (s *screen) Push(_ *bridge.Slot, u *bridge.Update) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, u)
	for _, row := range u.Rows {
		s.told = append(s.told, "row "+string(row))
	}
	select {
	case s.news <- struct{}{}:
	default:
	}
}

func (s *screen) Drop(*bridge.Slot) bool { return false }

func (s *screen) all() []*bridge.Update {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*bridge.Update(nil), s.seen...)
}

func (s *screen) rows() (rows []string) {
	for _, u := range s.all() {
		for _, r := range u.Rows {
			rows = append(rows, string(r))
		}
	}
	return rows
}

// waitFor waits until the client has seen n updates and returns them.
func (s *screen) waitFor(t testing.TB, n int) []*bridge.Update {
	t.Helper()
	timeout := time.After(patience)
	for {
		if all := s.all(); len(all) >= n {
			return all
		}
		select {
		case <-s.news:
		case <-timeout:
			t.Fatalf("saw %d updates, want %d", len(s.all()), n)
		}
	}
}

func (s *screen) subscribe(t testing.TB, k shared.EntityKey, o bridge.SubscribeOptions) {
	t.Helper()
	if err := s.Subscribe(k, o); err != nil {
		t.Fatal(err)
	}
}

var withSnapshot = bridge.SubscribeOptions{Snapshot: true}

// gate is a fetch handler that says when it was entered and waits to be let go.
type gate struct {
	entered chan string // the secret of each fetch as it begins
	release chan func() ([][]byte, error)
}

func newGate() *gate {
	return &gate{entered: make(chan string, 100), release: make(chan func() ([][]byte, error))}
}

func (g *gate) fetch(ctx context.Context, _ shared.EntityKey, secret string) ([][]byte, error) {
	g.entered <- secret
	select {
	case result := <-g.release:
		return result()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func row(text string) func() ([][]byte, error) {
	return func() ([][]byte, error) { return [][]byte{[]byte(text)}, nil }
}

// faultyBus is a bus that loses, doubles and delays messages on their way to
// this node, as fate says.
type faultyBus struct {
	bus.Bus
	mu   sync.Mutex
	fate func(body []byte) fate // nil for the best of fates
	dead bool                   // nothing comes or goes any more
}

type fate struct {
	lost    bool
	doubled bool
	delay   time.Duration
}

func (f *faultyBus) setFate(fate func([]byte) fate) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fate = fate
}

// kill ends the node's part on the bus as the end of its process does.
func (f *faultyBus) kill() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = true
}

func (f *faultyBus) isDead() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dead
}

func (f *faultyBus) Publish(ctx context.Context, entity shared.EntityType, body []byte) error {
	if f.isDead() {
		return shared.ErrUnavailable
	}
	return f.Bus.Publish(ctx, entity, body)
}

// Spread implements bus.Spreader.
func (f *faultyBus) Spread(ctx context.Context, entity shared.EntityType, body []byte) error {
	spreader, ok := f.Bus.(bus.Spreader)
	if !ok || f.isDead() {
		return f.Publish(ctx, entity, body)
	}
	return spreader.Spread(ctx, entity, body)
}

func (f *faultyBus) Subscribe(entity shared.EntityType, l bus.Listener) error {
	return f.Bus.Subscribe(entity, faultyListener{l, f})
}

type faultyListener struct {
	bus.Listener
	bus *faultyBus
}

func (l faultyListener) Message(body []byte) {
	var met fate
	l.bus.mu.Lock()
	if l.bus.fate != nil {
		met = l.bus.fate(body)
	}
	l.bus.mu.Unlock()
	if met.lost || l.bus.isDead() {
		return
	}
	deliver := func() {
		l.Listener.Message(body)
		if met.doubled {
			l.Listener.Message(body)
		}
	}
	if met.delay == 0 {
		deliver()
		return
	}
	body = bytes.Clone(body)
	time.AfterFunc(met.delay, deliver)
}
