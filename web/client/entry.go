package client

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/wire"
)

// entry is a watched key, and what is known of it. The Client's mutex guards all of it.
type entry struct {
	key    shared.EntityKey
	number uint64 // in the order in which keys were first wanted
	subs   map[*Subscription]struct{}

	known Update // without its state
	told  Update // what subs were told last

	// About the present connection.
	asked     bool // the key was subscribed to, and the subscription has not ended
	confirmed bool // the server has acknowledged that: its replies are about this subscription
	answered  bool // known is what the server says

	// For a key that the server cannot serve now.
	refusals int       // in a row
	waitsIn  *session  // the session whose list later has the key
	due      time.Time // when to subscribe again
}

// disconnect forgets the connection.
func (e *entry) disconnect() { e.asked, e.confirmed, e.answered = false, false, false }

// learn notes what the server says of the key.
func (e *entry) learn(u Update) {
	u.Key, u.change = e.key, e.known.change+1
	e.known = u
}

// deny notes that the key is refused. It forgets the rows, which the client may not be allowed
// to see any more.
func (e *entry) deny(err error) {
	e.disconnect()
	var old, now *Error
	if errors.As(e.known.Err, &old) && errors.As(err, &now) && *old == *now {
		return // nothing has changed
	}
	e.learn(Update{Err: err})
}

// withhold notes that the server has sent rows that the client does not take, and reports
// whether that is news. The key stays subscribed to: later rows may be taken.
func (e *entry) withhold(err error) (news bool) {
	e.answered, e.refusals = true, 0
	if news = !errors.Is(e.known.Err, ErrTooLarge); news {
		e.learn(Update{Err: err})
	}
	return news
}

// isKnown reports whether anything is known of the key.
func (e *entry) isKnown() bool { return e.known.Deleted || e.known.Rows != nil }

// about acts on a reply about the key.
func (e *entry) about(r wire.Reply) {
	switch r.Action {
	case wire.ActionUpdate:
		// Nothing is told of rows that were announced and have not changed.
		if !e.isKnown() || e.known.Deleted || r.Version == "" || r.Version != e.known.Version {
			e.learn(Update{Rows: rowsOf(r), Version: r.Version})
		}
		e.answered = true
	case wire.ActionCurrent:
		e.answered = r.Version != "" && r.Version == e.known.Version
	case wire.ActionDelete:
		if !e.known.Deleted {
			e.learn(Update{Deleted: true})
		}
		e.answered = true
	}
	e.refusals = 0
}

// stateLocked returns the state of a key.
func (c *Client) stateLocked(e *entry) State {
	switch {
	case e.known.Err != nil:
		return Denied
	case c.state == Offline:
		return Offline
	case !e.isKnown():
		return Connecting
	case c.state == Live && e.answered:
		return Live
	default:
		return Stale
	}
}

// publishLocked tells the subscriptions of a key what is new.
func (c *Client) publishLocked(e *entry) {
	u := e.known
	u.State = c.stateLocked(e)
	if u.State == e.told.State && u.change == e.told.change {
		return
	}
	e.told = u
	for s := range e.subs {
		s.updates.Put(u)
	}
}

// Subscribe asks for a key. However many Subscriptions a key has, the server is asked once. A
// key that was denied is asked for again, unless its rows are too large (ErrTooLarge). A
// malformed key is Denied. Close the Subscription when it is not needed any more.
func (c *Client) Subscribe(key shared.EntityKey) *Subscription {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[key]
	if e == nil {
		c.numbered++
		e = &entry{key: key, number: c.numbered, subs: make(map[*Subscription]struct{})}
		e.known.Key, e.told.Key = key, key
		c.entries[key] = e
		c.askLocked(e)
	} else if e.known.Err != nil && !e.asked {
		e.known.Err = nil
		c.askLocked(e)
	}
	s := &Subscription{client: c, entry: e}
	e.subs[s] = struct{}{}
	c.publishLocked(e)
	if e.told.State != Connecting || e.told.change > 0 {
		s.updates.Put(e.told)
	}
	if c.ended {
		s.updates.End()
	}
	return s
}

// askLocked subscribes to a key, now or once there is a connection.
func (c *Client) askLocked(e *entry) {
	switch err := e.key.Validate(); {
	case err != nil:
		if e.known.Err == nil {
			e.deny(err)
		}
	case c.denied != nil:
		e.deny(c.denied)
	case c.session != nil && !e.asked:
		c.session.queue = append(c.session.queue, e)
		c.session.wakeUp()
	}
}

// releaseLocked forgets a key that nothing watches any more. If the server has to be told, the
// writer does that later, so that a Subscribe that follows at once finds the key as it was.
func (c *Client) releaseLocked(e *entry) {
	if c.session == nil || !e.asked {
		delete(c.entries, e.key)
		return
	}
	c.session.left = append(c.session.left, e)
	c.session.wakeUp()
}

// reviveLocked asks again for the keys that were denied for a reason that may have ceased.
func (c *Client) reviveLocked(why func(error) bool) {
	for _, e := range c.entries {
		if e.known.Err != nil && !e.asked && why(e.known.Err) {
			c.askLocked(e)
		}
	}
}

func isTooMany(err error) bool { return errors.Is(err, shared.ErrTooManySubscriptions) }
func isAny(error) bool         { return true }

func rowsOf(r wire.Reply) []json.RawMessage {
	rows := make([]json.RawMessage, len(r.Rows))
	for i, row := range r.Rows {
		rows[i] = row
	}
	return rows
}
