package server

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/entity-sync/entity-sync/bench/workload"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web"
)

// entitySync is a node of Entity Sync, with one scope for everybody. Its clients
// choose the wire.
type entitySync struct {
	*es.EntitySync
	announcer *es.EntitySync // another node, over an nsqd: a node's own clients wait for no bus
	fetches
}

// fetches counts them.
type fetches struct {
	all, running, most atomic.Int64
}

// begin counts a fetch, until the function that it returns is called.
func (f *fetches) begin() (end func()) {
	f.all.Add(1)
	n := f.running.Add(1)
	for most := f.most.Load(); n > most && !f.most.CompareAndSwap(most, n); most = f.most.Load() {
	}
	return func() { f.running.Add(-1) }
}

// counts returns how many fetches there were, and how many at once at most.
func (f *fetches) counts() (all, most int) { return int(f.all.Load()), int(f.most.Load()) }

// newNode returns a node that can fetch nothing yet.
func newNode(c Config) (*entitySync, error) {
	node, err := es.New(es.Config{
		NSQAddr: c.NSQAddr,
		Web:     web.Config{MaxSubscriptions: c.MaxSubscriptions, WriteTimeout: c.Patience, PingInterval: c.Patience},
		Logger:  slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return nil, err
	}
	s := &entitySync{EntitySync: node, announcer: node}
	if c.NSQAddr != "" {
		s.announcer, err = es.New(es.Config{NSQAddr: c.NSQAddr, Logger: slog.New(slog.DiscardHandler)})
		if err == nil {
			err = s.announcer.Bridge.Announce(workload.Entity)
		}
	}
	return s, err
}

func newEntitySync(c Config, t *workload.Table) (*entitySync, error) {
	s, err := newNode(c)
	if err != nil {
		return nil, err
	}
	opts := []es.Option{es.WithScope(func(string) string { return "" })}
	if c.Workers > 0 {
		opts = append(opts, es.WithWorkers(c.Workers))
	}
	return s, es.Register(s.EntitySync, workload.Entity, func(_ context.Context, key shared.EntityKey, _ string) (json.RawMessage, error) {
		defer s.begin()()
		k, err := workload.KeyOf(key.ID)
		if err != nil || k < 0 || k >= c.Layout.Keys+c.Further {
			return nil, shared.ErrNotFound
		}
		row := t.Get(k)
		if c.FetchTime > 0 {
			time.Sleep(c.FetchTime) // after the row was read: as late as a database can be
		}
		return row.Append(nil), nil
	}, opts...)
}

func (s *entitySync) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.EntitySync.ServeHTTP(w, r) }

func (s *entitySync) change(key int) error {
	return s.announcer.Notify(context.Background(), shared.EntityKey{Entity: workload.Entity, ID: workload.ID(key)})
}

// watched is nothing until the node hears the bus.
func (s *entitySync) watched() int {
	if !s.Ready() {
		return 0
	}
	return s.Bridge.Stats().Subscriptions
}
