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

	// Rows are the newest that are known, each a JSON text. There are none where
	// nothing is known yet, or Deleted, or Denied. They are shared: read only.
	Rows []json.RawMessage

	// Version stands for the rows: with another one they differ.
	Version string

	// Deleted says that the key has no row. It may come back.
	Deleted bool

	// Err is why the key is Denied; see Error.
	Err error

	change int // how often something else than the state has changed, zero where nothing is known
}

// Subscription is one caller's interest in a key.
type Subscription struct {
	client  *Client
	entry   *entry
	updates conflate.Value[Update]
}

// Key returns what it is about.
func (s *Subscription) Key() shared.EntityKey { return s.entry.key }

// Updates yields what is known of the key, if anything is, and then each change of
// it: of the rows, or of the state. A caller that is slow sees the newest. It ends
// with ctx, Close, the Client's Close, and after a connection that is Denied.
//
// Every call begins with what is known then. Several may run at once.
func (s *Subscription) Updates(ctx context.Context) iter.Seq[Update] { return s.updates.All(ctx) }

// Latest returns what is known of the key, and a channel that is closed as soon as
// something newer is, or nothing follows: for use in a select.
func (s *Subscription) Latest() (u Update, changed <-chan struct{}) {
	s.client.mu.Lock() // until what changes now has changed for all
	defer s.client.mu.Unlock()
	u, changed = s.updates.Newest()
	u.Key = s.entry.key // also where nothing is known
	return u, changed
}

// Close ends it. The server is told to send no more when nobody else watches the
// key. It may be called again.
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
