package es

import (
	"errors"
	"fmt"

	"github.com/entity-sync/entity-sync/shared"
)

// Announces lets this node Notify of entity types whose rows other nodes fetch. It is for
// programs that only write, such as a worker or a cron job. The node does not hear changes of
// these types, has no fetch handler for them, and takes no subscription: a client that
// subscribes is told that the type is unknown. Notify, and the relay of Config.Outbox, promise
// the same as on a node that registers the type.
//
// The types may be registered on this node as well, before or after. Announces returns an
// error wrapping shared.ErrBadEntity for each name that cannot be an NSQ topic.
func Announces(s *EntitySync, entities ...shared.EntityType) error {
	errs := make([]error, 0, len(entities))
	for _, entity := range entities {
		if err := s.Bridge.Announce(entity); err != nil {
			errs = append(errs, fmt.Errorf("es: %w", err))
		}
	}
	return errors.Join(errs...)
}
