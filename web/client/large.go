package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"

	"github.com/entity-sync/entity-sync/shared"
)

// headBytes is how much of a message that is too large is kept. A node names the key
// before the rows, and the longest key takes less, with every byte of its id escaped.
const headBytes = 4 << 10

// readUpTo reads a message to its end, and returns it, or where it has more than limit
// bytes what it begins with. To skip what cannot be kept leaves the connection, and so
// all other keys, as they are.
func readUpTo(r io.Reader, limit int64) (message []byte, whole bool, err error) {
	var b bytes.Buffer
	if _, err := b.ReadFrom(io.LimitReader(r, min(max(limit, headBytes), math.MaxInt64-1)+1)); err != nil {
		return nil, false, err
	}
	if int64(b.Len()) <= limit {
		return b.Bytes(), true, nil
	}
	_, err = io.Copy(io.Discard, r)
	return b.Bytes()[:min(b.Len(), headBytes)], false, err
}

// tooLarge acts on a message of which there is the beginning alone.
func (s *session) tooLarge(head []byte) error {
	c := s.client
	if f, ok := decode(head); ok && f.action != actionUpdate { // a small limit, and no rows
		return s.act(f)
	}
	action, key := headOf(head)
	switch {
	case action != actionUpdate:
		c.log.Error("a message of the server's application is lost", slog.Any("error", ErrTooLarge))
		return nil
	case key.Validate() != nil: // which no node says: better none of them than an old one
		return fmt.Errorf("an update of an unknown key is %w", ErrTooLarge)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[key]; e != nil && e.confirmed {
		if e.withhold(fmt.Errorf("client: the rows are %w, which is %d", ErrTooLarge, c.options.MaxUpdateBytes)) {
			c.log.Error("the rows of a key cannot be taken", slog.String("entity", string(key.Entity)), slog.Any("error", e.known.Err))
		}
		c.publishLocked(e)
	}
	return nil
}

// headOf reads the action of a frame and the key that it is about from its beginning,
// as far as that goes.
func headOf(head []byte) (action string, key shared.EntityKey) {
	d := json.NewDecoder(bytes.NewReader(head))
	if t, _ := d.Token(); t != json.Delim('{') {
		return "", key
	}
	inBody := false
	for {
		name, err := d.Token()
		if err != nil {
			return action, key
		}
		value, err := d.Token()
		if err != nil {
			return action, key
		}
		text, isText := value.(string)
		switch {
		case !inBody && name == "body" && value == json.Delim('{'):
			inBody = true
		case !inBody && name == "action":
			action = text
		case inBody && name == "entity":
			key.Entity = shared.EntityType(text)
		case inBody && name == "id":
			key.ID = text
		case !isText && value == json.Delim('[') || value == json.Delim('{') || name == json.Delim('}'):
			return action, key // the rows, or something that no node says there
		}
	}
}
