package proxies

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/client"
)

const items shared.EntityType = "items"

type row struct {
	Rev int `json:"rev"`
}

// watcher is a client that watches an item, and measures for how long it cannot rely on
// what it knows of it.
type watcher struct {
	*client.Client
	item *client.Subscription
	work sync.WaitGroup

	mu       sync.Mutex
	attempts []string // what each attempt to connect was answered with, its status line
	since    time.Time
	longest  time.Duration
}

// watch starts a watcher of an item, until the test ends. dial makes its connections.
func watch(t *testing.T, url, id string, header http.Header, dial func(context.Context) (net.Conn, error)) *watcher {
	t.Helper()
	w := &watcher{}
	dialed := func(ctx context.Context, _, _ string) (net.Conn, error) { return w.dialed(dial(ctx)) }
	var err error
	w.Client, err = client.New(url, client.Options{
		Logger: canary.Logger(canary.Output(t)), ConnectTimeout: patience,
		Header: func(context.Context) (http.Header, error) { return header, nil },
		Dialer: &websocket.Dialer{NetDialContext: dialed, NetDialTLSContext: dialed},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.item = w.Subscribe(shared.EntityKey{Entity: items, ID: id})
	w.work.Go(w.follow)
	t.Cleanup(func() {
		w.Close()
		w.work.Wait()
	})
	return w
}

// dialed notes a connection, and what is answered on it.
func (w *watcher) dialed(conn net.Conn, err error) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.attempts = append(w.attempts, err.Error())
		return nil, err
	}
	w.attempts = append(w.attempts, "no answer")
	return &answered{Conn: conn, watcher: w, attempt: len(w.attempts) - 1}, nil
}

// answered notes the first line that comes.
type answered struct {
	net.Conn
	watcher *watcher
	attempt int
	noted   bool // of the reading goroutine
}

func (c *answered) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if !c.noted && n > 0 {
		c.noted = true
		line, _, _ := bytes.Cut(b[:n], []byte("\r\n"))
		c.watcher.mu.Lock()
		c.watcher.attempts[c.attempt] = string(line)
		c.watcher.mu.Unlock()
	}
	return n, err
}

// follow measures until the client is closed.
func (w *watcher) follow() {
	for u := range w.item.Updates(context.Background()) {
		w.mu.Lock()
		switch {
		case u.State == client.Live && !w.since.IsZero():
			w.longest = max(w.longest, time.Since(w.since))
			w.since = time.Time{}
		case u.State != client.Live && w.since.IsZero() && len(u.Rows) > 0: // not at the beginning
			w.since = time.Now()
		}
		w.mu.Unlock()
	}
}

// knows reports whether the watcher can rely on a revision, or on a later one.
func (w *watcher) knows(rev int) bool {
	u, _ := w.item.Latest()
	r, err := client.Row[row](u)
	return err == nil && u.State == client.Live && r.Rev >= rev
}

func (w *watcher) figures() (attempts []string, longest time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.attempts), w.longest
}

// watch starts a watcher behind the proxy. It is a page's: it says where it comes from.
func (p *proxy) watch(t *testing.T, id string) *watcher {
	t.Helper()
	dialer := &tls.Dialer{Config: p.tls}
	return watch(t, "wss://"+p.host+"/ws/entity-sync/", id, http.Header{"Origin": {"https://" + p.host}},
		func(ctx context.Context) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", p.host) })
}

// watchWithoutProxy starts a watcher that knows where the nodes are, and when it comes
// back goes to the next one.
func watchWithoutProxy(t *testing.T, id string, nodes [2]*node, first int) *watcher {
	t.Helper()
	addrs := [2]string{nodes[0].Addr, nodes[1].Addr}
	next := first // of the goroutine that connects
	return watch(t, "ws://nodes/ws/entity-sync/", id, nil, func(ctx context.Context) (net.Conn, error) {
		addr := addrs[next%len(addrs)]
		next++
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	})
}
