package outbox

import (
	"context"
	"fmt"

	"github.com/entity-sync/entity-sync/db/internal/sqlstate"
)

// withRemedy adds to an error of the database what mends it.
func withRemedy(err error) error {
	err = sqlstate.WithPoolRemedy(err)
	switch sqlstate.Of(err) {
	case sqlstate.UndefinedTable, sqlstate.UndefinedFunction:
		return fmt.Errorf("%w: outbox.EnsureSchema, or the SQL in outbox.Schema, makes the outbox, in the first schema of the search path", err)
	case sqlstate.InsufficientPrivilege:
		return fmt.Errorf("%w: outbox.Schema says what to grant", err)
	}
	return err
}

// remedy returns what an administrator must do about an error of the relay; empty for an error
// that may pass by itself. The table is the one of the outbox that was read.
func (r *Relay) remedy(err error, table string, rights []string) string {
	if remedy := sqlstate.PoolRemedy(err); remedy != "" {
		return remedy
	}
	if !sqlstate.IsSyntaxOrAccess(err) {
		return ""
	}
	ctx, cancel := context.WithTimeout(r.ctx, roundTimeout)
	defer cancel()
	remedy, err := relayRemedy(ctx, r.config.Pool, table, rights)
	if err != nil {
		return "" // the next round says how the database is
	}
	return remedy
}
