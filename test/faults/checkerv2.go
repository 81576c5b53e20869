package faults

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/wire"
)

// v2Session is what the v2 wire says more than the classic one.
type v2Session struct {
	addr    string // of the node
	pending []*request
	live    map[shared.EntityKey]time.Time // when the subscription was acknowledged, until it ends
	gone    map[shared.EntityKey]time.Time
	version map[shared.EntityKey]string // of the last row
	acked   string                      // the identity that rows are for
	ackedAt time.Time

	stale   bool
	news    []news                      // all that was said of that
	owed    map[shared.EntityKey]row    // what it must have when it is told that it is fresh
	silent  map[shared.EntityKey]bool   // what a breach was noted of already
	first   time.Time                   // when its first subscription was acknowledged
	closed  time.Time                   // zero while it is open
	answers []time.Time                 // when each ping was sent that was answered
	ended   map[shared.EntityKey]string // subscriptions that the node ended, with its reason
}

func (v *v2Session) subscribed(k shared.EntityKey) bool { return !v.live[k].IsZero() }

// news is what a client was told of how far it can trust its rows.
type news struct {
	stale bool
	at    time.Time
}

// request is what a client has asked for and was not told to be done yet.
type request struct {
	ref      int
	action   shared.Action
	identity string // that is said
	keys     map[shared.EntityKey]bool
}

// frame is what comes on the v2 wire.
type frame struct {
	wire.Reply
	ref int // of the client's request, zero without one
}

func frameOf(message []byte) (f frame, ok bool) {
	f.Reply, ok = wire.ReadReply(message)
	f.ref, _ = strconv.Atoi(string(f.Ref))
	return f, ok
}

// openV2 is open for a client that speaks v2 with the node of an address.
func (c *checker) openV2(w *watcher, addr string) *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.openLocked(w, "")
	s.v2 = &v2Session{
		addr: addr, live: make(map[shared.EntityKey]time.Time), gone: make(map[shared.EntityKey]time.Time),
		version: make(map[shared.EntityKey]string), silent: make(map[shared.EntityKey]bool),
		ended: make(map[shared.EntityKey]string),
	}
	for _, d := range c.doubts {
		d.note(s)
	}
	return s
}

// asks says that the client is about to send a request.
func (s *session) asks(r *request) {
	s.checker.mu.Lock()
	defer s.checker.mu.Unlock()
	s.v2.pending = append(s.v2.pending, r)
	if r.action == shared.ActionSecret {
		s.identity = r.identity
	}
}

// hears says that a frame has come. had is what the client had of its key with the
// version that it named.
func (s *session) hears(f frame, had row) {
	s.checker.mu.Lock()
	defer s.checker.mu.Unlock()
	v, k := s.v2, f.Key
	switch f.Action {
	case "ack":
		s.acked(f.ref)
	case "error":
		s.refused(f)
	case "update":
		var r row
		if len(f.Rows) != 1 || json.Unmarshal(f.Rows[0], &r) != nil || r.key() != k {
			s.breach("INV8", "got %s with %.200s", k.Hash(), f.Rows)
			return
		}
		if last, any := s.last[k]; any && v.version[k] == f.Version && (last.For != r.For || !last.sameState(r)) {
			s.breach("INV8", "got %s of %s with the version of %s", r.state(), k.Hash(), last.state())
		}
		if s.mayHear(k, "rows") {
			s.takeV2(r, f.Version)
		}
	case "current":
		if s.mayHear(k, "word that a version is the newest") {
			if had.key() != k {
				s.breach("INV8", "was told that its version of %s is the newest, of which it has none", k.Hash())
				return
			}
			s.takeV2(had, f.Version)
		}
	case "delete":
		if s.mayHear(k, "word of its end") {
			v.gone[k] = time.Now()
		}
	case "unsubscribed":
		if s.mayHear(k, "the end of its subscription") {
			delete(v.live, k)
			v.ended[k] = string(f.Code)
		}
	case "stale", "fresh":
		s.told(f.Action == "stale")
	}
}

// mayHear checks that the client is subscribed to what it hears of: no earlier
// than the ack of that, and no later than the ack of its end.
func (s *session) mayHear(k shared.EntityKey, what string) bool {
	if !s.watcher.keys[k] {
		s.breach("INV3", "got %s of %s, which it does not watch", what, k.Hash())
		return false
	}
	if !s.v2.subscribed(k) {
		s.breach("INV4", "got %s of %s, to which it is not subscribed", what, k.Hash())
		return false
	}
	return true
}

// acked checks that requests are answered in order, and does what they ask for.
func (s *session) acked(ref int) {
	v := s.v2
	if len(v.pending) == 0 || v.pending[0].ref != ref {
		s.breach("INV8", "got the ack of request %d, which is not the next one", ref)
		return
	}
	r := v.pending[0]
	v.pending = v.pending[1:]
	switch r.action {
	case shared.ActionSecret:
		v.acked, v.ackedAt = r.identity, time.Now()
	case shared.ActionSubscribe:
		if v.first.IsZero() {
			v.first = time.Now()
		}
		for k := range r.keys {
			if !v.subscribed(k) {
				v.live[k] = time.Now()
			}
			delete(v.ended, k)
		}
	case shared.ActionUnsubscribe:
		for k := range r.keys {
			delete(v.live, k)
		}
	}
}

// refused takes an error that answers a request, or is about one of its keys.
func (s *session) refused(f frame) {
	v := s.v2
	if len(v.pending) == 0 || f.ref == 0 || v.pending[0].ref != f.ref {
		return
	}
	r := v.pending[0]
	if f.Key.Entity != "" {
		delete(r.keys, f.Key)
		return
	}
	v.pending = v.pending[1:]
	if r.action == shared.ActionSecret && s.identity == r.identity {
		s.identity = v.acked
	}
}

func (s *session) takeV2(r row, version string) {
	v := s.v2
	if r.For != v.acked {
		s.breach("INV3 or INV4", "is %s since the ack of that and got a row of %s that was fetched for %s", v.acked, r.key().Hash(), r.For)
	}
	delete(v.gone, r.key())
	v.version[r.key()] = version
	s.take(r)
}

// differenceV2 is difference for what the classic wire does not say.
func (s *session) differenceV2(k shared.EntityKey, there row, exists bool) (d string, known bool) {
	v := s.v2
	_, gone := v.gone[k]
	if len(v.pending) > 0 {
		return fmt.Sprintf("waits for the ack of %d requests", len(v.pending)), true
	}
	forbidden := false
	if exists {
		_, err := there.seenBy(s.identity)
		forbidden = err == shared.ErrForbidden //nolint:errorlint // seenBy's own
		exists = err == nil
	}
	switch {
	case forbidden && v.subscribed(k):
		return fmt.Sprintf("may not see %s and was not told", k.Hash()), true
	case forbidden:
		return "", true
	case !v.subscribed(k):
		return fmt.Sprintf("is not subscribed to %s any more (%s)", k.Hash(), v.ended[k]), true
	case !exists && !gone:
		return fmt.Sprintf("has %s, which is gone, and was not told", k.Hash()), true
	case !exists:
		return "", true
	case gone:
		return fmt.Sprintf("was told that %s is gone, want %s", k.Hash(), there.state()), true
	}
	return "", false
}

// watchingWrongly returns how many v2 clients are still subscribed to a key that
// they may not see.
func (c *checker) watchingWrongly(k shared.EntityKey, truth map[shared.EntityKey]row) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.watchers {
		s := w.session
		if s == nil || s.v2 == nil || !s.v2.subscribed(k) {
			continue
		}
		if _, gone := s.v2.gone[k]; gone {
			continue
		}
		if _, err := truth[k].seenBy(s.identity); err != nil {
			n++
		}
	}
	return n
}
