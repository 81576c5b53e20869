package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/es"
	mark "github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/nodetest"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testkit.ServesHTTP()) }

const patience = testkit.Patience

// canary is in every secret of these tests, and in no log.
const canary = mark.Mark

func key(id string) shared.EntityKey { return shared.EntityKey{Entity: "items", ID: id} }

// row is what the server has of an item.
type row struct {
	ID  string `json:"id"`
	Rev int    `json:"rev"`
	For string `json:"for"`
}

// table is a database.
type table struct {
	mu     sync.Mutex
	revs   map[string]int // by id; the row is there if it is more than zero
	last   map[string]int // by id, also of deleted ones
	hidden map[string]bool
	width  int // of the rows
}

func (t *table) write(id string) (rev int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.revs == nil {
		t.revs, t.last = map[string]int{}, map[string]int{}
	}
	t.last[id]++
	t.revs[id] = t.last[id]
	return t.last[id]
}

func (t *table) remove(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last[id]++
	delete(t.revs, id)
}

func (t *table) hide(id string, hidden bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hidden == nil {
		t.hidden = map[string]bool{}
	}
	t.hidden[id] = hidden
}

func (t *table) fetch(_ context.Context, k shared.EntityKey, secret string) (json.RawMessage, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.hidden[k.ID]:
		return nil, shared.ErrForbidden
	case t.revs[k.ID] == 0:
		return nil, shared.ErrNotFound
	}
	return fmt.Appendf(nil, `{"id":%q,"rev":%d,"for":%q,"pad":%q}`, k.ID, t.revs[k.ID], secret, strings.Repeat("x", t.width)), nil
}

// node is a server with the table behind it.
type node struct {
	*es.EntitySync
	table  *table
	broker *membus.Broker
}

func startNode(t testing.TB, tab *table, broker *membus.Broker, c es.Config) *node {
	t.Helper()
	c.Bus = broker.NewNode()
	n := &node{nodetest.New(t, c), tab, broker}
	if err := es.Register(n.EntitySync, "items", tab.fetch); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *node) stop(t testing.TB) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := n.Close(ctx); err != nil {
		t.Errorf("closing a node: %v", err)
	}
}

// change writes a row and says so.
func (n *node) change(t testing.TB, id string) (rev int) {
	t.Helper()
	rev = n.table.write(id)
	n.tell(t, id)
	return rev
}

func (n *node) tell(t testing.TB, id string) {
	t.Helper()
	if err := n.Notify(context.Background(), key(id)); err != nil {
		t.Fatal(err)
	}
}

// world is an address with a node behind it, which can be replaced, and a line to
// it, which can be disturbed.
type world struct {
	*node
	t       testing.TB
	server  *httptest.Server
	handler atomic.Pointer[http.Handler]
	line    *line
	log     *testkit.Buffer
}

func start(t testing.TB, c es.Config) *world {
	t.Helper()
	w := &world{t: t, line: &line{conns: map[*lineConn]struct{}{}}, log: &testkit.Buffer{}}
	w.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { (*w.handler.Load()).ServeHTTP(rw, r) }))
	t.Cleanup(w.server.Close) // after the nodes
	w.serve(startNode(t, &table{}, &membus.Broker{}, c))
	t.Cleanup(func() {
		if strings.Contains(w.log.String(), canary) {
			t.Errorf("a secret is in the log:\n%s", w.log)
		}
	})
	return w
}

// serve puts a node behind the address.
func (w *world) serve(n *node) {
	w.node = n
	w.answer(n)
}

func (w *world) answer(h http.Handler) { w.handler.Store(&h) }

// options are those of a client on the line that does not wait long.
func (w *world) options(o client.Options) client.Options {
	o.Dialer = &websocket.Dialer{NetDialContext: w.line.dial}
	o.Logger = mark.Logger(w.log, mark.Output(w.t))
	if o.RetryMax == 0 {
		o.RetryMin, o.RetryMax = time.Millisecond, 20*time.Millisecond
	}
	return o
}

func (w *world) dial(o client.Options) *client.Client {
	w.t.Helper()
	c, err := client.Dial(w.t.Context(), w.server.URL, w.options(o))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Close)
	return c
}

// line is the network between client and server.
type line struct {
	received atomic.Int64 // bytes from the server
	dials    atomic.Int64 // that came to a connection

	mu    sync.Mutex
	conns map[*lineConn]struct{}
	down  bool
}

type lineConn struct {
	net.Conn
	line   *line
	frozen atomic.Bool
}

func (l *line) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return nil, errors.New("the network is down")
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	l.dials.Add(1)
	c := &lineConn{Conn: conn, line: l}
	l.conns[c] = struct{}{}
	return c, nil
}

// cut breaks every connection.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		c.Conn.Close()
	}
	clear(l.conns)
}

// setDown cuts the network, or mends it.
func (l *line) setDown(down bool) {
	l.mu.Lock()
	l.down = down
	l.mu.Unlock()
	if down {
		l.cut()
	}
}

// freeze makes nothing pass any more on the connections there are, and nobody
// notice.
func (l *line) freeze() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		c.frozen.Store(true)
	}
}

func (c *lineConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if c.frozen.Load() && err == nil {
			continue
		}
		c.line.received.Add(int64(n))
		return n, err
	}
}

func (c *lineConn) Write(b []byte) (int, error) {
	if c.frozen.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// view follows a subscription and remembers what it was shown.
type view struct {
	t    testing.TB
	sub  *client.Subscription
	done chan struct{}

	mu   sync.Mutex
	seen []client.Update
	news chan struct{}
}

func watch(t testing.TB, c *client.Client, id string) *view {
	v := &view{t: t, sub: c.Subscribe(key(id)), done: make(chan struct{}), news: make(chan struct{}, 1)}
	go func() {
		defer close(v.done)
		for u := range v.sub.Updates(context.Background()) {
			v.mu.Lock()
			v.seen = append(v.seen, u)
			v.mu.Unlock()
			select {
			case v.news <- struct{}{}:
			default:
			}
		}
	}()
	t.Cleanup(func() {
		v.sub.Close()
		<-v.done
	})
	return v
}

// all returns what was shown so far.
func (v *view) all() []client.Update {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]client.Update(nil), v.seen...)
}

// until waits until the newest update is as wanted.
func (v *view) until(what string, wanted func(client.Update) bool) client.Update {
	v.t.Helper()
	late := time.After(patience)
	for {
		if all := v.all(); len(all) > 0 && wanted(all[len(all)-1]) {
			return all[len(all)-1]
		}
		select {
		case <-v.news:
		case <-late:
			latest, _ := v.sub.Latest()
			v.t.Fatalf("waited %v in vain for %s; was shown:\n%s\nand it is %s", patience, what, v, latest.State)
		}
	}
}

// untilRev waits until a revision is shown, and relied upon.
func (v *view) untilRev(rev int) {
	v.t.Helper()
	v.until(fmt.Sprint("revision ", rev), func(u client.Update) bool { return u.State == client.Live && revOf(u) == rev })
}

func (v *view) untilState(state client.State) client.Update {
	v.t.Helper()
	return v.until(state.String(), func(u client.Update) bool { return u.State == state })
}

// String is what was shown, in one line.
func (v *view) String() string {
	var b strings.Builder
	for _, u := range v.all() {
		fmt.Fprintf(&b, " %s", u.State)
		switch {
		case u.Err != nil:
			fmt.Fprintf(&b, "(%v)", u.Err)
		case u.Deleted:
			b.WriteString("(deleted)")
		case u.Rows != nil:
			fmt.Fprintf(&b, "(%d)", revOf(u))
		}
	}
	return strings.TrimSpace(b.String())
}

// neverBack checks that nothing older was ever shown after something newer.
func (v *view) neverBack() {
	v.t.Helper()
	last := 0
	for _, u := range v.all() {
		if rev := revOf(u); rev > 0 && rev < last {
			v.t.Fatalf("%s went back: %s", v.sub.Key().Hash(), v)
		} else if rev > 0 {
			last = rev
		}
	}
}

// revOf is the revision that an update shows, zero for none.
func revOf(u client.Update) int {
	r, err := client.Row[row](u)
	if err != nil {
		return 0
	}
	return r.Rev
}

// untilStatus waits for a state of the connection.
func untilStatus(t testing.TB, c *client.Client, state client.State) client.Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for s := range c.Statuses(ctx) {
		if s.State == state {
			return s
		}
	}
	s, _ := c.Status()
	t.Fatalf("waited %v in vain for %s: it is %v", patience, state, s)
	return s
}
