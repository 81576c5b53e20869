// Package clienttest is a system for clients to be tested against: nodes behind a
// front, a database in memory, and everything that can go wrong between them.
package clienttest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web"
)

// Items is the one entity type there is.
const Items shared.EntityType = "items"

// News is the one channel there is. Topics are hidden and unavailable as ids are.
const News = "news"

// Options describes a World. The zero value works.
type Options struct {
	// Nodes is how many there are. Zero means two.
	Nodes int `json:"nodes"`

	// NSQAddr joins the nodes. Without it they share a bus in memory.
	NSQAddr string `json:"-"`

	// QueuePrefix is nsqbus.Config.Prefix: systems that share an nsqd need one each, or
	// a secret that is revoked in one is revoked in all.
	QueuePrefix string `json:"-"`

	// Addr is where clients connect. Empty means a free port.
	Addr string `json:"-"`

	// Verify refuses secrets that were revoked, and all subscriptions without one.
	Verify bool `json:"verify"`

	// Lifetime is how long secrets last from when they are said first.
	Lifetime map[string]time.Duration `json:"-"`

	// MaxSubscriptions and SubscribeRate are those of web.Config.
	MaxSubscriptions int `json:"maxSubscriptions"`
	SubscribeRate    int `json:"subscribeRate"`

	// AllowedOrigins is that of es.Config.
	AllowedOrigins []string `json:"allowedOrigins"`

	// Handle adds to what a node serves besides clients.
	Handle func(*http.ServeMux) `json:"-"`

	// Logger gets what the nodes log. Nil discards it.
	Logger *slog.Logger `json:"-"`
}

// World is a running system.
type World struct {
	// Front is what clients connect to.
	Front *Front

	options Options
	broker  membus.Broker
	nodes   []*node

	mu          sync.Mutex
	rows        map[string]json.RawMessage
	hidden      map[string]bool      // ids that nobody may see
	unavailable map[string]bool      // ids that cannot be decided on
	revoked     map[string]bool      // secrets
	expires     map[string]time.Time // of secrets
	sick        bool                 // fetching fails
	sessions    map[web.Session]struct{}
	heard       []json.RawMessage // messages of the clients' own
}

// node is one node, and the server it runs in.
type node struct {
	sync   *es.EntitySync
	server *http.Server
	addr   string
	served chan struct{}
}

// New starts a system.
func New(o Options) (w *World, err error) {
	o.Nodes = cmp.Or(o.Nodes, 2)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	w = &World{
		options: o,
		rows:    make(map[string]json.RawMessage), hidden: make(map[string]bool), unavailable: make(map[string]bool),
		revoked: make(map[string]bool), expires: make(map[string]time.Time), sessions: make(map[web.Session]struct{}),
	}
	if w.Front, err = newFront(cmp.Or(o.Addr, "127.0.0.1:0")); err != nil {
		return nil, err
	}
	for range o.Nodes {
		if err := w.StartNode(); err != nil {
			return nil, errors.Join(err, w.Close(context.Background()))
		}
	}
	return w, nil
}

// StartNode adds a node.
func (w *World) StartNode() error {
	c := es.Config{
		NSQAddr: w.options.NSQAddr, AllowedOrigins: w.options.AllowedOrigins, Authorize: w.authorize, OnMessage: w.hear, Logger: w.options.Logger,
		Web: web.Config{RequireSecret: w.options.Verify, MaxSubscriptions: w.options.MaxSubscriptions, SubscribeRate: w.options.SubscribeRate},
	}
	if c.NSQAddr != "" {
		c.NSQ.Prefix = w.options.QueuePrefix
	} else {
		c.Bus = w.broker.NewNode()
	}
	if w.options.Verify {
		c.VerifySecret = w.verify
	}
	s, err := es.New(c)
	if err != nil {
		return err
	}
	err = errors.Join(es.Register(s, Items, w.fetch), es.RegisterChannel(s, News, es.ClientsPublish(), es.Keep(100, time.Hour)))
	if err != nil {
		return errors.Join(err, s.Close(context.Background()))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	if err != nil {
		return errors.Join(err, s.Close(context.Background()))
	}
	mux := http.NewServeMux()
	mux.Handle(web.DefaultPath, s)
	if w.options.Handle != nil {
		w.options.Handle(mux)
	}
	n := &node{sync: s, addr: l.Addr().String(), served: make(chan struct{})}
	n.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		defer close(n.served)
		_ = n.server.Serve(l) // until it is shut down
	}()
	w.mu.Lock()
	w.nodes = append(w.nodes, n)
	w.mu.Unlock()
	w.Front.add(n.addr)
	return nil
}

// Node returns the node of the given number that is running.
func (w *World) Node(i int) *es.EntitySync {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nodes[i%len(w.nodes)].sync
}

// Ready reports whether every node hears what the others announce.
func (w *World) Ready() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.nodes {
		if !n.sync.Ready() {
			return false
		}
	}
	return true
}

// Figures is how much the nodes have to do.
type Figures struct {
	Clients, Subscriptions int
	Fetches                uint64
	Taken                  int // connections, since the start
}

// Figures returns those of all nodes that are running.
func (w *World) Figures() (f Figures) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.nodes {
		s := n.sync.Bridge.Stats()
		f.Clients += s.Clients
		f.Subscriptions += s.Subscriptions
		f.Fetches += s.Fetches
	}
	f.Taken = w.Front.Taken()
	return f
}

// Drain sends the clients of the first node elsewhere and ends it, as a restart does.
func (w *World) Drain(ctx context.Context) error {
	w.mu.Lock()
	n := w.nodes[0]
	w.nodes = w.nodes[1:]
	w.mu.Unlock()
	w.Front.remove(n.addr)
	return n.close(ctx)
}

func (n *node) close(ctx context.Context) error {
	err := errors.Join(n.sync.Close(ctx), n.server.Shutdown(ctx))
	<-n.served
	return err
}

// Close ends everything.
func (w *World) Close(ctx context.Context) error {
	w.mu.Lock()
	nodes := w.nodes
	w.nodes = nil
	w.mu.Unlock()
	w.Front.Close()
	var errs []error
	for _, n := range nodes {
		errs = append(errs, n.close(ctx))
	}
	return errors.Join(errs...)
}

// Write stores a row and announces it on the given node.
func (w *World) Write(ctx context.Context, i int, id string, row json.RawMessage) error {
	w.change(func() { w.rows[id] = row })
	return w.Notify(ctx, i, id)
}

// Delete is Write for a row that is gone.
func (w *World) Delete(ctx context.Context, i int, id string) error {
	w.change(func() { delete(w.rows, id) })
	return w.Notify(ctx, i, id)
}

// Notify announces that a row may have changed.
func (w *World) Notify(ctx context.Context, i int, id string) error {
	return w.Node(i).Notify(ctx, shared.EntityKey{Entity: Items, ID: id})
}

// Hide keeps a row from everybody, or ends that; secret/id keeps it from one.
func (w *World) Hide(id string, on bool) { w.change(func() { w.hidden[id] = on }) }

// Unavailable makes it impossible to decide who may see a row, or ends that.
func (w *World) Unavailable(id string, on bool) { w.change(func() { w.unavailable[id] = on }) }

// Sick makes every fetch fail, or ends that.
func (w *World) Sick(on bool) { w.change(func() { w.sick = on }) }

// Expire makes a secret end after some time, counted from now.
func (w *World) Expire(secret string, after time.Duration) {
	w.change(func() { w.expires[secret] = time.Now().Add(after) })
}

// Last makes a secret end some time after it is first used.
func (w *World) Last(secret string, lifetime time.Duration) {
	w.change(func() {
		lifetimes := map[string]time.Duration{secret: lifetime}
		maps.Copy(lifetimes, w.options.Lifetime)
		w.options.Lifetime = lifetimes
	})
}

// Withdraw refuses a secret from now on.
func (w *World) Withdraw(secret string) { w.change(func() { w.revoked[secret] = true }) }

// Heard returns the messages of the clients' own so far.
func (w *World) Heard() []json.RawMessage {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]json.RawMessage{}, w.heard...)
}

// Sessions returns the sessions that have sent a message of their own.
func (w *World) Sessions() []web.Session {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([]web.Session, 0, len(w.sessions))
	for s := range w.sessions {
		all = append(all, s)
	}
	return all
}

func (w *World) change(how func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	how()
}

var errSick = errors.New("the database is down")

// fetch returns a row. What is hidden is an id, or secret/id where only one may not see it.
func (w *World) fetch(_ context.Context, key shared.EntityKey, secret string) (map[string]any, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	row, ok := w.rows[key.ID]
	switch {
	case w.sick:
		return nil, errSick
	case w.hidden[key.ID] || w.hidden[secret+"/"+key.ID]:
		return nil, shared.ErrForbidden
	case !ok:
		return nil, shared.ErrNotFound
	}
	var v map[string]any
	if err := json.Unmarshal(row, &v); err != nil {
		return nil, fmt.Errorf("row %s: %w", key.ID, err)
	}
	return v, nil
}

func (w *World) verify(_ context.Context, secret string) (expires time.Time, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.revoked[secret] {
		return time.Time{}, shared.ErrUnauthenticated
	}
	if lifetime, ok := w.options.Lifetime[secret]; ok && w.expires[secret].IsZero() {
		w.expires[secret] = time.Now().Add(lifetime)
	}
	return w.expires[secret], nil
}

var errUndecided = errors.New("access cannot be decided now")

func (w *World) authorize(_ context.Context, a shared.AccessRequest) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch id := cmp.Or(string(a.Topic), a.Key.ID); {
	case w.unavailable[id]:
		return errUndecided
	case a.Topic != "" && w.hidden[id]:
		return shared.ErrForbidden
	}
	return nil
}

func (w *World) hear(s web.Session, message []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sessions[s] = struct{}{}
	w.heard = append(w.heard, append(json.RawMessage(nil), message...))
}
