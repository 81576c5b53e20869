package nsqbus

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/entity-sync/entity-sync/internal/exactjson"
	"github.com/entity-sync/entity-sync/shared"
)

var errNoEntity = errors.New(`no "entity" in it`)

// entityOf returns the entity type that a body on a shared topic is for. It
// parses the body as the Bridge does, so that the two never disagree.
func entityOf(body []byte) (shared.EntityType, error) {
	if !json.Valid(body) || !exactjson.IsObject(body) {
		return "", errNoEntity
	}
	var m [1]exactjson.Member
	exactjson.Read(body, []string{"entity"}, m[:])
	entity, err := exactjson.String(m[0].Value)
	if err != nil || entity == "" || m[0].Ambiguous {
		return "", errNoEntity
	}
	return shared.EntityType(entity), nil
}

// names returns an error unless a body for a shared topic names entity. A node finds the
// listeners of a message by that name.
func names(body []byte, entity shared.EntityType) error {
	got, err := entityOf(body)
	if err != nil {
		return fmt.Errorf("a body on a shared topic must be JSON with the field entity: %w", err)
	}
	if got != entity {
		return fmt.Errorf("a body for %q names the entity %.80q", entity, string(got))
	}
	return nil
}
