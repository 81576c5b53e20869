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
)

// entitySync is a node of Entity Sync, with one scope for everybody. Its clients
// choose the wire.
type entitySync struct {
	*es.EntitySync
	nsq     bool
	fetches fetches
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

func newEntitySync(c Config, t *workload.Table) (*entitySync, error) {
	node, err := es.New(es.Config{
		NSQAddr:          c.NSQAddr,
		MaxSubscriptions: c.MaxSubscriptions,
		WriteTimeout:     c.WriteTimeout,
		Logger:           slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return nil, err
	}
	s := &entitySync{EntitySync: node, nsq: c.NSQAddr != ""}
	opts := []es.Option{es.WithScope(func(string) string { return "" })}
	if c.Workers > 0 {
		opts = append(opts, es.WithWorkers(c.Workers))
	}
	err = es.Register(node, workload.Entity, func(_ context.Context, key shared.EntityKey, _ string) (json.RawMessage, error) {
		defer s.fetches.begin()()
		k, err := workload.KeyOf(key.ID)
		if err != nil || k < 0 || k >= c.Layout.Keys+c.Further {
			return nil, shared.ErrNotFound
		}
		row := t.Get(k)
		time.Sleep(c.FetchTime) // after the row was read: as late as a database can be
		return row.Append(nil), nil
	}, opts...)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (s *entitySync) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.EntitySync.ServeHTTP(w, r) }

func (s *entitySync) change(key int) error {
	return s.Notify(context.Background(), shared.EntityKey{Entity: workload.Entity, ID: workload.ID(key)})
}

func (s *entitySync) waits() bool { return s.nsq }

func (s *entitySync) watched() int { return s.Bridge.Stats().Subscriptions }

func (s *entitySync) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.Close(ctx) // a thousand sockets need not be told
}
