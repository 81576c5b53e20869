package es

import (
	"fmt"

	"github.com/entity-sync/entity-sync/shared"
)

// Setup is New in the classic form. It panics on a configuration that can never
// work, such as an address without a port, or a Path that does not begin with /.
func Setup(c Config) EntitySync {
	s, err := New(c)
	if err != nil {
		panic(err)
	}
	return *s
}

// RegisterEntityAndDBHandler is Register in the classic form: the handler passes each row on
// to the function that it is given, before it returns. Registering an entity type again
// replaces its handler. If the type was registered with Register, that is an error wrapping
// shared.ErrDuplicateEntity.
func (s *EntitySync) RegisterEntityAndDBHandler(entityType shared.EntityType, handler shared.EntityKeySecretByteHandler) error {
	if handler == nil {
		return fmt.Errorf("es: registering %q: the handler is nil", entityType)
	}
	if _, taken := s.modern.Load(entityType); taken {
		return fmt.Errorf("es: registering %q: %w", entityType, shared.ErrDuplicateEntity)
	}
	s.DatabaseHub.AddDataPullAndPushHandler(entityType, handler)
	return s.Bridge.RegisterEntityForSync(entityType)
}
