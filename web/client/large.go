package client

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math"

	"github.com/entity-sync/entity-sync/web/wire"
)

// headBytes is how much is kept of a message that is too large. A node names the key before
// the rows. The longest key takes less than this, with every byte of its id escaped.
const headBytes = 4 << 10

// readUpTo reads a message to its end and returns it. If the message has more than limit
// bytes, it returns the beginning. The rest is read and discarded, so that the connection,
// with all other keys, stays as it is.
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

// tooLarge acts on a message of which only the beginning was kept.
func (s *session) tooLarge(head []byte) error {
	c := s.client
	if f, ok := wire.ReadReply(head); ok && f.Action != wire.ActionUpdate { // the limit is small, and there are no rows
		return s.act(f)
	}
	action, key := wire.ReadHead(head)
	switch {
	case action == wire.ActionEvent:
		s.tooLargeEvent()
		return nil
	case action != wire.ActionUpdate:
		c.log.Error("a message of the server's application is lost", slog.Any("error", ErrTooLarge))
		return nil
	case key.Validate() != nil: // no node sends that: better to have no rows at all than old ones
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
