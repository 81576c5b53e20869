package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/js"
)

// Node is one server of the board. It shares the database and NSQ with the
// other, and knows nothing else of it.
type Node struct {
	Name string

	listener  net.Listener
	sync      *es.EntitySync
	announcer *Announcer // nil with an outbox
	server    *http.Server
	served    chan struct{} // closed when the server has stopped taking connections
}

// nodeConfig configures a node.
type nodeConfig struct {
	name     string
	listener net.Listener
	page     pageData
	store    Store
	nsqAddr  string
	bus      *Bus
	log      *slog.Logger
}

// startNode starts a node, which owns c.listener unless there is an error.
func startNode(ctx context.Context, c nodeConfig) (*Node, error) {
	n := &Node{Name: c.name, listener: c.listener, served: make(chan struct{})}
	log := c.log.With(slog.String("node", c.name))
	var err error
	n.sync, err = es.New(es.Config{NSQAddr: c.nsqAddr, Outbox: c.store.Outbox(), Logger: log})
	if err != nil {
		return nil, fmt.Errorf("setting up Entity Sync: %w", err)
	}
	announce := n.wakeOutbox
	if c.store.Outbox() == nil {
		n.announcer = StartAnnouncer(n.sync, log)
		announce = n.announcer.Announce
	}
	mux := http.NewServeMux()
	mux.Handle("/ws/entity-sync/", n.sync)
	mux.Handle("/entity-sync/", http.StripPrefix("/entity-sync", js.Handler())) // the page imports these modules
	(&API{node: c.name, store: c.store, announce: announce, bus: c.bus, log: log}).Mount(mux)
	if err := errors.Join(c.store.Register(ctx, n.sync), c.bus.Register(n.sync), mountPage(mux, c.page)); err != nil {
		return nil, errors.Join(err, n.closeSync(context.WithoutCancel(ctx)))
	}
	n.server = &http.Server{
		Handler: mux,
		// A client that sends slowly, or nothing any more, does not keep its connection. These
		// limits do not apply to WebSockets, which are pinged.
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	go n.serve(log)
	return n, nil
}

// wakeOutbox announces keys that were written with the rows: the relay would announce them in
// a moment, and now does so at once.
func (n *Node) wakeOutbox(context.Context, ...shared.EntityKey) bool {
	n.sync.OutboxRelay().Wake()
	return true
}

func (n *Node) serve(log *slog.Logger) {
	defer close(n.served)
	if err := n.server.Serve(n.listener); !errors.Is(err, http.ErrServerClosed) {
		log.Error("the server stopped", slog.Any("error", err))
	}
}

// readyTimeout bounds how long a start waits for NSQ. Tests wait longer.
var readyTimeout = 5 * time.Second

// waitReady returns when the node hears what other nodes announce. Nothing would be lost
// without waiting: a node that subscribes later fetches again all that its clients watch.
func (n *Node) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !n.sync.Bridge.Ready() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s cannot subscribe on NSQ: %w", n.Name, ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// URL returns the address of the node's page.
func (n *Node) URL() string { return "http://" + n.listener.Addr().String() + "/" }

// closeSync sends the node's WebSocket clients away and leaves NSQ.
func (n *Node) closeSync(ctx context.Context) error {
	if n.announcer != nil {
		n.announcer.Stop()
	}
	return n.sync.Close(ctx)
}

// closeServer waits for the requests under way, and ends the server.
func (n *Node) closeServer(ctx context.Context) error {
	err := n.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, n.server.Close())
	}
	<-n.served
	return err
}
