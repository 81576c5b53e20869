package es

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/internal/field"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web"
)

// EntitySync is one node. It is an http.Handler for WebSocket clients. Its methods may be
// called from any goroutine, and copies of it are the same node.
type EntitySync struct {
	// Bridge is the engine.
	Bridge *bridge.Bridge

	// DatabaseHub holds the fetch handlers.
	DatabaseHub *db.DatabaseHub

	handler *web.Handler
	relay   *outbox.Relay // nil without Config.Outbox
	drain   *drain
	log     *slog.Logger
	limits  *sync.Map // *bridge.Limit, for each *pgxpool.Pool that is fetched from
	modern  *sync.Map // the entity types registered with Register, RegisterRows, RegisterBatch or RegisterQuery
}

var _ http.Handler = (*EntitySync)(nil)

// New starts a node. It returns an error for a bad configuration, and none for an nsqd that
// cannot be reached.
func New(c Config) (*EntitySync, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, field.In("es.Config", err)
	}
	p, err := newParts(c)
	if err != nil {
		return nil, field.In("es.Config", err)
	}
	s := &EntitySync{DatabaseHub: db.NewDatabaseHub(), log: c.Logger, limits: new(sync.Map), modern: new(sync.Map), drain: &drain{delay: c.DrainDelay, log: c.Logger}}
	if err := s.startBridge(&p, c.BusKey); err != nil {
		return nil, err
	}
	if err := errors.Join(s.startRelay(c), s.serve(c, &p)); err != nil {
		_ = errors.Join(s.closeRelay(context.Background()), s.Bridge.Close(context.Background())) // both have only just begun
		return nil, err
	}
	if p.alone() {
		c.Logger.Info("no NSQAddr: changes are announced within this process only")
	}
	return s, nil
}

func (s *EntitySync) startBridge(p *parts, key string) error {
	bus, err := p.newBus(key)
	if err != nil {
		return err
	}
	config := p.bridge
	config.Bus, config.Fetch = bus, s.DatabaseHub.Fetch
	if s.Bridge, err = bridge.New(config); err != nil {
		if p.bridge.Bus == nil {
			_ = bus.Close(context.Background()) // it has only just begun
		}
		return p.errorIn("Bridge", err)
	}
	return nil
}

func (s *EntitySync) serve(c Config, p *parts) (err error) {
	config := p.web
	config.Bridge = s.Bridge
	if s.handler, err = web.New(config); err != nil {
		return p.errorIn("Web", err)
	}
	if c.Mux == nil {
		return nil
	}
	if err := web.Mount(c.Mux, c.Path, s.handler); err != nil {
		return field.In("es.Config", field.Errorf("Path", "%w", err))
	}
	return nil
}

// Notify announces that the rows of keys changed. Call it after the write is committed, on any
// node. When it returns nil, every client of every node that stays connected and subscribed to
// one of the keys ends up with rows of a fetch that began after this call.
//
// Notify waits for the bus no longer than ctx allows. It gives up once the bus has taken no
// message of the entity type for Config.Bridge.PublishTimeout: very many keys are several
// messages, and each has that time. After an error it is safe to call Notify again, with all
// keys or with the Keys of the *shared.NotAnnouncedError.
func (s *EntitySync) Notify(ctx context.Context, keys ...shared.EntityKey) error {
	return s.Bridge.Notify(ctx, keys...)
}

// Revoke ends the sessions that go by a secret, on every node, and tells clients not to come
// back. It does not keep anybody out: withdraw the secret first, so that your fetch handlers,
// Authenticate and VerifySecret refuse it. The empty secret is an error: each client has it
// until it sends another. The secret itself is not published on the bus, only its SHA-256
// digest.
func (s *EntitySync) Revoke(ctx context.Context, secret string) error {
	return s.handler.Revoke(ctx, secret)
}

// Disconnect is Revoke for clients that are to connect anew, for example to be authenticated
// again when their rights have changed.
func (s *EntitySync) Disconnect(ctx context.Context, secret string) error {
	return s.handler.Disconnect(ctx, secret)
}

// Reconsider has every node ask Config.Authorize again about each subscription that hears one
// of the topics or a topic below it; shared.Everything is all topics. A subscription that
// Authorize refuses ends, and the client is told so. Withdraw the right first, so that
// Authorize refuses. When Reconsider returns nil, every node has heard of it or will, as long
// as this node lives.
//
// Nodes ask again by themselves within Config.Web.ReauthorizeEvery. The rows of a key need
// neither: each push comes of a fetch with the client's own secret.
func (s *EntitySync) Reconsider(ctx context.Context, topics ...shared.Topic) error {
	return s.handler.Reconsider(ctx, topics...)
}

// ServeHTTP connects a WebSocket client.
func (s *EntitySync) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.handler.ServeHTTP(w, r)
}

// Ready reports whether the node hears the changes that other nodes announce, and accepts
// clients. It is for load balancers.
func (s *EntitySync) Ready() bool { return !s.drain.begun.Load() && s.Bridge.Ready() }

// Close ends the node in this order, no longer than ctx allows: the node is not ready any
// more, serves its clients for Config.DrainDelay, sends them away (close code 1012, "service
// restart"), leaves the outbox to other nodes, leaves the bus, and waits for the fetch
// handlers under way. Call it before http.Server's Shutdown, which does not know of upgraded
// connections. It may be called again.
func (s *EntitySync) Close(ctx context.Context) error {
	s.drain.wait(ctx)
	return errors.Join(s.sendAway(ctx), s.closeRelay(ctx), s.Bridge.Close(ctx))
}

// sendAway leaves a quarter of the time to the steps that follow. Clients that have not gone
// by then are cut off, rather than the bus and the fetch handlers.
func (s *EntitySync) sendAway(ctx context.Context) error {
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)*3/4)
		defer cancel()
	}
	return s.handler.Close(ctx)
}
