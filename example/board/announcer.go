package main

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/shared"
)

// Announcer tells every node that keys changed. It remembers the keys that it could not
// announce while NSQ was away, and announces them later. A row that was written stays written,
// whether or not its key could be announced.
type Announcer struct {
	sync *es.EntitySync
	log  *slog.Logger

	mu      sync.Mutex
	pending map[shared.EntityKey]struct{}
	wake    chan struct{} // holds one value: keys are pending
	stop    context.CancelFunc
	stopped chan struct{}
}

// retryPause is the wait between two attempts to announce the pending keys.
const retryPause = time.Second

// StartAnnouncer starts the goroutine that tries again. Stop ends it.
func StartAnnouncer(sync *es.EntitySync, log *slog.Logger) *Announcer {
	ctx, stop := context.WithCancel(context.Background())
	a := &Announcer{
		sync: sync, log: log, stop: stop,
		pending: make(map[shared.EntityKey]struct{}),
		wake:    make(chan struct{}, 1),
		stopped: make(chan struct{}),
	}
	go a.run(ctx)
	return a
}

// Stop gives up the pending keys.
func (a *Announcer) Stop() {
	a.stop()
	<-a.stopped
}

// Announce announces a change that was just written. It returns false if other nodes will hear
// of it only later.
func (a *Announcer) Announce(ctx context.Context, keys ...shared.EntityKey) bool {
	// The row is written, so the other nodes must hear of it even if the writer has gone.
	err := a.sync.Notify(context.WithoutCancel(ctx), keys...)
	if err == nil {
		return true
	}
	a.log.Warn("a change could not be announced yet", slog.Any("error", err))
	a.remember(keys)
	return false
}

func (a *Announcer) remember(keys []shared.EntityKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, key := range keys {
		a.pending[key] = struct{}{}
	}
	select {
	case a.wake <- struct{}{}:
	default: // awake already
	}
}

func (a *Announcer) take() []shared.EntityKey {
	a.mu.Lock()
	defer a.mu.Unlock()
	keys := slices.Collect(maps.Keys(a.pending))
	clear(a.pending)
	return keys
}

func (a *Announcer) run(ctx context.Context) {
	defer close(a.stopped)
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryPause):
		}
		keys := a.take()
		if err := a.sync.Notify(ctx, keys...); err != nil && ctx.Err() == nil {
			a.remember(keys)
		}
	}
}
