package faults

import (
	"fmt"
	"strings"

	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/shared"
)

// The entity types of a node. Each is a table too.
const (
	items shared.EntityType = "items" // fetched one by one
	batch shared.EntityType = "batch" // fetched many at once
	sick  shared.EntityType = "sick"  // fetched by a handler that does what it is told

	// ordered is fetched by the same handler, and its rows have a revision by
	// which Entity Sync can tell an old one.
	ordered shared.EntityType = "ordered"
)

var entityTypes = []shared.EntityType{items, batch, sick, ordered}

func key(entity shared.EntityType, id string) shared.EntityKey {
	return shared.EntityKey{Entity: entity, ID: id}
}

// row is what the database holds and the clients see.
type row struct {
	Entity shared.EntityType `json:"entity"`
	ID     string            `json:"id"`
	For    string            `json:"for"`   // the identity it was fetched for
	Owner  string            `json:"owner"` // who alone may see it; empty for everybody
	Nonce  int64             `json:"nonce"` // of this life of the row: greater each time it is created anew
	Rev    int64             `json:"rev"`   // 1 when created, and one more with each write
	Pad    string            `json:"pad,omitempty"`
}

func (r row) key() shared.EntityKey { return key(r.Entity, r.ID) }

// before reports whether r is an older state than s of the same key.
func (r row) before(s row) bool {
	return r.Nonce < s.Nonce || r.Nonce == s.Nonce && r.Rev < s.Rev
}

func (r row) sameState(s row) bool { return r.Nonce == s.Nonce && r.Rev == s.Rev }

func (r row) state() string { return fmt.Sprintf("life %d revision %d", r.Nonce, r.Rev) }

// An identity is who a secret stands for: a user, a dot, and a number that makes
// each secret of a user another one. No row and no log line needs a secret.
func secretOf(identity string) string { return canary.Mark + ":" + identity }

func identityOf(secret string) string {
	identity, _ := strings.CutPrefix(secret, canary.Mark+":")
	return identity
}

func userOf(identity string) string {
	user, _, _ := strings.Cut(identity, ".")
	return user
}

// seenBy returns the row as the holder of an identity may see it. Of what may
// not be seen some rows say so, and others deny that they exist.
func (r row) seenBy(identity string) (row, error) {
	if r.Owner != "" && r.Owner != userOf(identity) {
		if strings.HasSuffix(r.ID, "-secret") {
			return row{}, shared.ErrNotFound
		}
		return row{}, shared.ErrForbidden
	}
	r.For = identity
	return r, nil
}
