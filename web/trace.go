package web

import (
	"fmt"
	"log/slog"

	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/internal/websocket"
	"github.com/entity-sync/entity-sync/web/wire"
)

// What follows answers the question why a client did not get a row: a line for each
// step, at the debug level. docs/troubleshooting.md reads them. None has an id, a secret
// or a row in it, nor an entity type that only the client knows of.

// debugging reports whether such lines are written. Without them nothing is made for
// them either.
func (h *Handler) debugging() bool { return h.config.Logger.Enabled(h.ctx, slog.LevelDebug) }

// traceBegin says that a client has connected.
func (s *session) traceBegin() {
	if s.handler.debugging() {
		s.handler.config.Logger.LogAttrs(s.handler.ctx, slog.LevelDebug, "connected",
			slog.Uint64("session", s.number), slog.String("client", strange(s.remote)), slog.String("wire", s.wire()))
	}
}

// traceSubscribed says that a subscription is live.
func (s *session) traceSubscribed(entity shared.EntityType, snapshot bool) {
	if s.handler.debugging() {
		s.handler.config.Logger.LogAttrs(s.handler.ctx, slog.LevelDebug, "subscribed",
			slog.Uint64("session", s.number), slog.String("entity", string(entity)), slog.Bool("snapshot", snapshot))
	}
}

// traceUnsubscribed says that Authorize has ended a subscription.
func (s *session) traceUnsubscribed(entity shared.EntityType, why wire.Code) {
	if s.handler.debugging() && s.handler.knows(entity) {
		s.handler.config.Logger.LogAttrs(s.handler.ctx, slog.LevelDebug, "unsubscribed",
			slog.Uint64("session", s.number), slog.String("entity", string(entity)), slog.String("code", string(why)))
	}
}

// traceAway says with which close code the client is told to go.
func (s *session) traceAway(code int) {
	if s.handler.debugging() {
		s.handler.config.Logger.LogAttrs(s.handler.ctx, slog.LevelDebug, "sending a client away",
			slog.Uint64("session", s.number), slog.Int("close_code", code))
	}
}

// traceEnd says why a session is over, err being why nothing more is read.
func (s *session) traceEnd(err error) {
	if s.handler.debugging() {
		s.handler.config.Logger.LogAttrs(s.handler.ctx, slog.LevelDebug, "disconnected",
			slog.Uint64("session", s.number), slog.String("cause", s.causeOfEnd(err)))
	}
}

// causeOfEnd is one of few texts: what err says may be the client's.
func (s *session) causeOfEnd(err error) string {
	switch {
	case s.out.HasOverflowed():
		return fmt.Sprint("it read too slowly: close code ", wire.CloseSlow)
	case s.conn.IsLeaving():
		return "it was told to go"
	default:
		return websocket.Cause(err)
	}
}

// wire names what the client speaks.
func (s *session) wire() string {
	return s.encoder.wire.Name()
}

// numberOf returns the number under which the log knows a client, counted from 1: the
// engine's, whose lines about fetches have it as well.
func (h *Handler) numberOf(c client) uint64 {
	if numbered, ok := c.(interface{ Number() uint64 }); ok {
		return numbered.Number()
	}
	return h.numbered.Add(1)
}

// knows reports whether an entity type is the application's, so that it may be named.
func (h *Handler) knows(entity shared.EntityType) bool {
	return h.config.Bridge != nil && h.config.Bridge.Registered(entity)
}
