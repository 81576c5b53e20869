package shared

import (
	"fmt"
	"unicode/utf8"
)

const (
	// MaxEntityTypeBytes is the longest that an NSQ topic's name may be. A queue prefix counts
	// towards it.
	MaxEntityTypeBytes = 64

	// MaxIDBytes bounds an id, so that the memory that one client's subscriptions take on a
	// node is bounded too.
	MaxIDBytes = 255
)

// EntityType names a kind of thing that clients watch, usually a table:
// "items". It becomes a topic name on the bus; see Validate.
type EntityType string

// Validate returns an error wrapping ErrBadEntity unless e is 1 to 64 bytes of letters,
// digits, '.', '_' and '-', as NSQ requires of a topic's name.
func (e EntityType) Validate() error {
	if len(e) == 0 {
		return fmt.Errorf("%w: it is empty", ErrBadEntity)
	}
	if len(e) > MaxEntityTypeBytes {
		return fmt.Errorf("%w: it has %d bytes, the limit is %d", ErrBadEntity, len(e), MaxEntityTypeBytes)
	}
	for i := range len(e) {
		if !isTopicByte(e[i]) {
			return fmt.Errorf("%w: byte %d (%q) is not a letter, a digit, '.', '_' or '-'", ErrBadEntity, i, e[i])
		}
	}
	return nil
}

func isTopicByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '.' || c == '_' || c == '-'
}

// EntityKey names one thing that clients watch, usually a row. It is comparable
// and is meant to be used as a map key as it is.
type EntityKey struct {
	Entity EntityType `json:"entity"`
	ID     string     `json:"id"`
}

// Hash returns "entity.id", for logs and the caller's own use. It is not a safe
// map key: an entity type may itself hold a dot.
func (k EntityKey) Hash() string {
	return string(k.Entity) + "." + k.ID
}

// Validate returns an error wrapping ErrBadKey unless the id is 1 to 255 bytes
// of UTF-8 without control characters and the entity type is valid. Ids are
// opaque otherwise.
func (k EntityKey) Validate() error {
	if err := k.Entity.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrBadKey, err)
	}
	if len(k.ID) == 0 {
		return fmt.Errorf("%w: the id is empty", ErrBadKey)
	}
	if len(k.ID) > MaxIDBytes {
		return fmt.Errorf("%w: the id has %d bytes, the limit is %d", ErrBadKey, len(k.ID), MaxIDBytes)
	}
	if !utf8.ValidString(k.ID) {
		return fmt.Errorf("%w: the id is not UTF-8", ErrBadKey)
	}
	for i := range len(k.ID) {
		if c := k.ID[i]; c < 0x20 || c == 0x7f {
			return fmt.Errorf("%w: the id holds a control character at byte %d", ErrBadKey, i)
		}
	}
	return nil
}
