package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/internal/revocation"
	"github.com/entity-sync/entity-sync/web/wire"
)

// sessionsTopic carries revocations from node to node.
const sessionsTopic shared.EntityType = "es.sessions"

// hearRevocations joins the sessions' topic. If that fails, Revoke returns the error.
func (h *Handler) hearRevocations(b *bridge.Bridge) {
	h.deaf = b.RegisterTopic(sessionsTopic, bridge.Topic{Message: h.revocations.Hear, Gap: h.revocations.Missed})
	if h.deaf == nil {
		// What was missed may have been about any topic.
		h.deaf = b.RegisterTopic(sessionsTopic, bridge.Topic{Message: h.hearReconsider, Gap: func() { h.rights.Hear(shared.Everything) }})
	}
	if h.deaf != nil {
		h.config.Logger.Warn("Revoke, Disconnect and Reconsider will not work", slog.Any("error", h.deaf))
	}
}

func (h *Handler) newRevocations() *revocation.List {
	return revocation.NewList(revocation.Config{
		Publish: func(ctx context.Context, texts ...string) error {
			return h.config.Bridge.Publish(ctx, sessionsTopic, texts...)
		},
		Start: h.start, Leaving: h.leaving, Occupied: h.anybody,
		Clock: func() time.Time { return h.wall() }, Logger: h.config.Logger,
	})
}

// Who implements revocation.Session.
func (s *session) Who() (revocation.Digest, revocation.Moment) {
	id := s.who()
	return revocation.DigestOf(id.secret), id.since
}

// Revoke implements revocation.Session.
func (s *session) Revoke(code int) {
	reason := "the secret was withdrawn"
	if code == wire.CloseDisconnected {
		reason = "connect anew"
	}
	s.closeGracefully(code, reason)
}

// Revoke ends the sessions that go by a secret, on every node, with close code
// wire.CloseRevoked, which tells clients not to come back. Revoke does not keep anybody out:
// withdraw the secret first, so that fetch handlers, Authenticate and VerifySecret refuse it.
// When Revoke returns nil, every node has heard of it or will, as long as this node lives.
// That includes a node that is cut off from the bus for some minutes.
//
// Each node ends the sessions that it has when it hears of the revocation, and those that are
// being let in at that time. It spares a session if the application is asked about the secret
// later. No clocks are compared.
//
// The empty secret is an error: each client has it until it sends another. The secret itself
// is not published on the bus, only its SHA-256 digest.
func (h *Handler) Revoke(ctx context.Context, secret string) error {
	return h.revoke(ctx, wire.CloseRevoked, secret)
}

// Disconnect is Revoke with close code wire.CloseDisconnected: the clients connect anew and
// are authenticated again. A node waits a fifth of a second before it sends them away, so that
// each node that they come to has heard of it.
func (h *Handler) Disconnect(ctx context.Context, secret string) error {
	return h.revoke(ctx, wire.CloseDisconnected, secret)
}

func (h *Handler) revoke(ctx context.Context, code int, secret string) error {
	if h.config.Bridge == nil {
		return errors.New("web: a handler without a Bridge cannot reach other nodes")
	}
	if secret == "" {
		return errors.New("web: each client has the empty secret until it sends another: its sessions cannot be ended")
	}
	if h.deaf != nil {
		return fmt.Errorf("web: sessions cannot be ended: %w", h.deaf)
	}
	if err := h.revocations.Give(ctx, code, secret); err != nil {
		return fmt.Errorf("web: ending sessions on other nodes: %w", err)
	}
	return nil
}
