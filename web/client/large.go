package client

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math"

	"github.com/entity-sync/entity-sync/web/wire"
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
	if f, ok := wire.ReadReply(head); ok && f.Action != wire.ActionUpdate { // a small limit, and no rows
		return s.act(f)
	}
	action, key := wire.ReadHead(head)
	switch {
	case action != wire.ActionUpdate:
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
