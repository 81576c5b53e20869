package client

import (
	"context"
	"encoding/json"
	"iter"

	"github.com/entity-sync/entity-sync/internal/conflate"
	"github.com/entity-sync/entity-sync/shared"
)

// Update is what is known of a key.
type Update struct {
	Key   shared.EntityKey
	State State

	// Rows are the newest known rows, each a JSON text. There are none if nothing is known
	// yet, or if the key is Deleted or Denied. They are shared: read only.
	Rows []json.RawMessage

	// Version stands for the rows: with another one they differ.
	Version string

	// Deleted says that the key has no row. It may come back.
	Deleted bool

	// Err is why the key is Denied; see Error.
	Err error

	change int // how often anything but the state has changed, zero if nothing is known
}

// Subscription is one caller's interest in a key.
type Subscription struct {
	client  *Client
	entry   *entry
	updates conflate.Value[Update]
}

// Key returns the key that the Subscription is for.
func (s *Subscription) Key() shared.EntityKey { return s.entry.key }

// Updates yields what is known of the key, if anything is, and then each change of the rows or
// of the state. A slow caller sees the newest. It ends with ctx, Close, the Client's Close,
// and after a connection that is Denied.
//
// Every call begins with what is known then. Several may run at once.
func (s *Subscription) Updates(ctx context.Context) iter.Seq[Update] { return s.updates.All(ctx) }

// Latest returns what is known of the key, and a channel that is closed once that changes, or
// cannot change any more: for use in a select.
func (s *Subscription) Latest() (u Update, changed <-chan struct{}) {
	s.client.mu.Lock() // a change is seen in full or not at all
	defer s.client.mu.Unlock()
	u, changed = s.updates.Newest()
	u.Key = s.entry.key // even if nothing is known
	return u, changed
}

// Close ends the Subscription. If it was the last of its key, the server is told to send no
// more. Close may be called again.
func (s *Subscription) Close() {
	s.updates.End()
	c := s.client
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, watches := s.entry.subs[s]; !watches {
		return
	}
	delete(s.entry.subs, s)
	if len(s.entry.subs) == 0 {
		c.releaseLocked(s.entry)
	}
}
