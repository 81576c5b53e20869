package web

import (
	"fmt"
	"log/slog"

	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/internal/websocket"
	"github.com/entity-sync/entity-sync/web/wire"
)

// These lines answer the question why a client did not get a row: one for each step, at the
// debug level. docs/troubleshooting.md reads them. None has an id, a secret or a row in it,
// nor an entity type that the application does not know.

// debugging reports whether such lines are written. If not, nothing is computed for them.
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

// traceAway logs the close code with which the client is told to go.
func (s *session) traceAway(code int) {
	if s.handler.debugging() {
		s.handler.config.Logger.LogAttrs(s.handler.ctx, slog.LevelDebug, "sending a client away",
			slog.Uint64("session", s.number), slog.Int("close_code", code))
	}
}

// traceEnd logs why a session is over. err is the error that ended the reading.
func (s *session) traceEnd(err error) {
	if s.handler.debugging() {
		s.handler.config.Logger.LogAttrs(s.handler.ctx, slog.LevelDebug, "disconnected",
			slog.Uint64("session", s.number), slog.String("cause", s.causeOfEnd(err)))
	}
}

// causeOfEnd returns one of few texts: the text of err may be the client's.
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

// wire returns the name of the client's wire.
func (s *session) wire() string {
	return s.encoder.wire.Name()
}

// numberOf returns the client's number in the log, counted from 1. It is the engine's number,
// which lines about fetches have as well.
func (h *Handler) numberOf(c client) uint64 {
	if numbered, ok := c.(interface{ Number() uint64 }); ok {
		return numbered.Number()
	}
	return h.numbered.Add(1)
}

// knows reports whether the application has an entity type, so that a line may name it.
func (h *Handler) knows(entity shared.EntityType) bool {
	return h.config.Bridge != nil && h.config.Bridge.Registered(entity)
}

// observe tells the application what a client has done.
func (s *session) observe(a shared.AccessRequest) {
	observe := s.handler.config.Observe
	if observe == nil {
		return
	}
	a.Secret, a.Remote = s.who().secret, s.remote
	_ = s.handler.guard("Observe", func() error { // the log has a panic
		observe(a)
		return nil
	})
}
