package es

import (
	"context"

	"github.com/entity-sync/entity-sync/db"
)

// Outbox returns what announces the keys in the outbox, to be woken after a commit
// and for its figures; nil without Config.Outbox. A nil one may be woken, too.
func (s *EntitySync) Outbox() *db.Relay { return s.relay }

func (s *EntitySync) startRelay(c Config) (err error) {
	if c.Outbox == nil {
		return nil
	}
	o := *c.Outbox
	if o.Logger == nil {
		o.Logger = c.Logger
	}
	s.relay, err = o.Start(s.Bridge)
	return err
}

func (s *EntitySync) closeRelay(ctx context.Context) error {
	if s.relay == nil {
		return nil
	}
	return s.relay.Close(ctx)
}
