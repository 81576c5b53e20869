package test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
	"github.com/entity-sync/entity-sync/web/client"
)

// goClient is the Go client.
type goClient struct{ *client.Client }

func watchOn(t testing.TB, url, secret string) goClient { return dialWith(t, url, secret, nil) }

func dialWith(t testing.TB, url, secret string, dialer *websocket.Dialer) goClient {
	t.Helper()
	c, err := client.Dial(t.Context(), url, client.Options{
		Secret: secret, Dialer: dialer, RetryMin: 10 * time.Millisecond, RetryMax: 100 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return goClient{c}
}

// show is what is shown of an item, one after another.
type show struct {
	t    testing.TB
	sub  *client.Subscription
	seen []client.Update
}

func (c goClient) shows(t testing.TB, id string) *show {
	return &show{t: t, sub: c.Subscribe(item(id))}
}

// until waits until a revision or a later one is shown in a state, and checks that
// nothing goes back on the way.
func (s *show) until(state client.State, rev int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	for u := range s.sub.Updates(ctx) {
		if n := len(s.seen); n > 0 && revOf(u) < revOf(s.seen[n-1]) {
			s.t.Fatalf("%s went back from %d to %d (%s)", s.sub.Key().Hash(), revOf(s.seen[n-1]), revOf(u), u.State)
		}
		s.seen = append(s.seen, u)
		if u.State == state && revOf(u) >= rev {
			return
		}
	}
	s.t.Fatalf("waited in vain for %s with %d; was shown %v", state, rev, s.seen)
}

// revOf is the revision that an update shows, zero for none.
func revOf(u client.Update) int {
	r, err := client.Row[row](u)
	if err != nil {
		return 0
	}
	return r.Rev
}

// A page of a program that stays open while the nodes are replaced under it, one
// after the other, each told to go; while nsqd goes and comes; and while somebody
// writes on the node that it is not connected to.
func TestAClientOfNodesThatAreReplaced(t *testing.T) {
	t.Parallel()
	nsqd := nsqdtest.Start(t)
	var db database
	newNode := func() *node { return startNode(t, &db, es.Config{NSQAddr: nsqd.Addr}) }
	writer, serving := newNode(), newNode()
	var front atomic.Pointer[node]
	front.Store(serving)
	balancer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { front.Load().ServeHTTP(w, r) }))
	t.Cleanup(balancer.Close)
	untilReady(t, writer, serving)

	const keys = 20
	c := watchOn(t, balancer.URL, "me")
	var shows []*show
	for i := range keys {
		shows = append(shows, c.shows(t, fmt.Sprint(i)))
	}
	change := func() {
		t.Helper()
		for i, s := range shows {
			rev := db.write(fmt.Sprint(i))
			writer.notify(t, fmt.Sprint(i))
			if i == 0 {
				s.until(client.Live, rev)
			}
		}
		for i, s := range shows {
			s.until(client.Live, db.now(fmt.Sprint(i)))
		}
	}
	change()
	for range 3 {
		next := newNode()
		untilReady(t, next)
		old := front.Swap(next)
		closing := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			closing <- old.Close(ctx)
		}()
		change()
		if err := <-closing; err != nil {
			t.Error(err)
		}
		change()
	}
	nsqd.Kill(t)
	shows[0].until(client.Stale, 0)
	for i := range keys {
		db.write(fmt.Sprint(i))
	}
	nsqd.Start(t)
	for i, s := range shows {
		s.until(client.Live, db.now(fmt.Sprint(i)))
	}
	untilReady(t, writer, front.Load())
	change()
	for _, s := range shows {
		for i, u := range s.seen {
			if revOf(u) == 0 && i > 0 || u.State == client.Denied {
				t.Fatalf("%s flickered: %+v", s.sub.Key().Hash(), u)
			}
		}
	}
}

// A client loses the network for a while in which a hundred changes are written on
// another node: it shows the last one when it is back, with the other node.
func TestAClientThatWasOffline(t *testing.T) {
	t.Parallel()
	nsqd := nsqdtest.Start(t)
	var db database
	one, two := startNode(t, &db, es.Config{NSQAddr: nsqd.Addr}), startNode(t, &db, es.Config{NSQAddr: nsqd.Addr})
	untilReady(t, one, two)
	network := &network{}
	s := dialWith(t, one.URL, "me", &websocket.Dialer{NetDialContext: network.dial}).shows(t, "100")
	first := db.write("100")
	two.notify(t, "100")
	s.until(client.Live, first)
	network.cut("")
	s.until(client.Offline, first)
	for range 100 {
		db.write("100")
		two.notify(t, "100")
	}
	network.cut(two.Server.Listener.Addr().String()) // where it comes back
	s.until(client.Live, first+100)
	for _, u := range s.seen[1:] {
		if r := revOf(u); r != first && r != first+100 {
			t.Errorf("shown %d, which it cannot have got", r)
		}
	}
	rev := db.write("100")
	one.notify(t, "100")
	s.until(client.Live, rev)
}

// network is how a client gets to a server.
type network struct {
	mu    sync.Mutex
	conns []net.Conn
	cutTo *string // where connections go from now on; nowhere if empty
}

func (n *network) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cutTo != nil {
		addr = *n.cutTo
	}
	if addr == "" {
		return nil, &net.OpError{Op: "dial", Err: net.ErrClosed}
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err == nil {
		n.conns = append(n.conns, conn)
	}
	return conn, err
}

// cut breaks the connections there are and leads new ones to addr.
func (n *network) cut(addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cutTo = &addr
	for _, c := range n.conns {
		c.Close()
	}
	n.conns = nil
}
