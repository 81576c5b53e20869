package es

import (
	"context"

	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/internal/field"
)

// OutboxRelay returns the relay that announces the keys in the outbox: wake it after a commit,
// and ask it for its figures. Without Config.Outbox it is nil, whose Wake and Stats work, too.
func (s *EntitySync) OutboxRelay() *outbox.Relay { return s.relay }

func (s *EntitySync) startRelay(c Config) (err error) {
	if c.Outbox == nil {
		return nil
	}
	config := *c.Outbox
	if config.Logger == nil {
		config.Logger = c.Logger
	}
	s.relay, err = outbox.Start(config, s.Bridge)
	return field.In("es.Config.Outbox", err)
}

func (s *EntitySync) closeRelay(ctx context.Context) error {
	if s.relay == nil {
		return nil
	}
	return s.relay.Close(ctx)
}
