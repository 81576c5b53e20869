package faults

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/shared"
)

// checker is told what every client gets, and notes what breaks a promise.
type checker struct {
	mu       sync.Mutex
	breaches []string
	more     int // breaches beyond those that are kept
	watchers map[string]*watcher
	ignored  map[shared.EntityKey]bool // nobody can be up to date with these
	written  map[shared.EntityKey]*history
	doubts   []*doubt // that have begun and not ended
}

// watcher is one client: what it is to end up with.
type watcher struct {
	name    string
	keys    map[shared.EntityKey]bool
	session *session // nil while it is not connected
	opened  int      // sessions so far
}

// session is one connection of a client.
type session struct {
	checker  *checker
	watcher  *watcher
	number   int
	identity string
	// former are identities whose rows may still be on their way. A row of the
	// newest identity ends that.
	former map[string]bool
	last   map[shared.EntityKey]row
	got    map[shared.EntityKey]int // rows

	v2 *v2Session // nil on the classic wire
}

// maxBreaches is how many are shown: a broken promise is broken many times.
const maxBreaches = 20

func newChecker() *checker {
	return &checker{watchers: make(map[string]*watcher), ignored: make(map[shared.EntityKey]bool), written: make(map[shared.EntityKey]*history)}
}

// watch says that a client is to watch keys from now on.
func (c *checker) watch(name string, keys []shared.EntityKey) *watcher {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := &watcher{name: name, keys: make(map[shared.EntityKey]bool, len(keys))}
	for _, k := range keys {
		w.keys[k] = true
	}
	c.watchers[name] = w
	return w
}

// forget says that a client has left.
func (c *checker) forget(w *watcher) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.watchers, w.name)
}

// ignore says whether a row is left out of what clients are to end up with.
func (c *checker) ignore(k shared.EntityKey, ignore bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ignored[k] = ignore
}

// open says that a client has connected and said who it is.
func (c *checker) open(w *watcher, identity string) *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.openLocked(w, identity)
}

func (c *checker) openLocked(w *watcher, identity string) *session {
	w.opened++
	w.session = &session{
		checker: c, watcher: w, number: w.opened, identity: identity, former: make(map[string]bool),
		last: make(map[shared.EntityKey]row), got: make(map[shared.EntityKey]int),
	}
	return w.session
}

// close says that the connection has ended.
func (s *session) close() {
	s.checker.mu.Lock()
	defer s.checker.mu.Unlock()
	if s.v2 != nil {
		s.v2.closed = time.Now()
	}
	if s.watcher.session == s {
		s.watcher.session = nil
	}
}

// become says that the client is about to say another secret.
func (s *session) become(identity string) {
	s.checker.mu.Lock()
	defer s.checker.mu.Unlock()
	s.former[s.identity] = true
	s.identity = identity
}

// settled reports whether a row of the newest identity has arrived.
func (s *session) settled() bool {
	s.checker.mu.Lock()
	defer s.checker.mu.Unlock()
	return len(s.former) == 0 && len(s.last) > 0 && (s.v2 == nil || len(s.v2.pending) == 0)
}

// saw says that the client got a row.
func (s *session) saw(r row) {
	c := s.checker
	c.mu.Lock()
	defer c.mu.Unlock()
	k := r.key()
	if !s.watcher.keys[k] {
		s.breach("INV3", "got %s, which it does not watch", k.Hash())
		return
	}
	switch {
	case r.For == s.identity:
		clear(s.former)
	case s.former[r.For]:
	default:
		s.breach("INV3 or INV4", "is %s and got a row of %s that was fetched for %s", s.identity, k.Hash(), r.For)
	}
	s.take(r)
}

// take notes a row, on either wire.
func (s *session) take(r row) {
	k := r.key()
	if r.Owner != "" && r.Owner != userOf(r.For) {
		s.breach("INV3", "is %s and got %s, which is for %s alone", s.identity, k.Hash(), r.Owner)
	}
	last, any := s.last[k]
	if any && r.before(last) {
		s.breach("INV2", "had %s of %s and got %s", last.state(), k.Hash(), r.state())
	}
	s.last[k] = r
	s.got[k]++
}

func (s *session) breach(which, format string, args ...any) {
	s.checker.breachLocked(fmt.Sprintf("%s: client %s, connection %d: %s", which, s.watcher.name, s.number, fmt.Sprintf(format, args...)))
}

func (c *checker) breachLocked(what string) {
	if len(c.breaches) == maxBreaches {
		c.more++
		return
	}
	c.breaches = append(c.breaches, what)
}

// breach notes a broken promise that somebody else has found.
func (c *checker) breach(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.breachLocked(fmt.Sprintf(format, args...))
}

// found returns the breaches so far.
func (c *checker) found() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := slices.Clone(c.breaches)
	if c.more > 0 {
		found = append(found, fmt.Sprintf("and %d more", c.more))
	}
	return found
}

// behind compares what each client has with what it may read: truth, the rows of
// the database. It returns what differs; none is INV1.
func (c *checker) behind(truth map[shared.EntityKey]row) (differences []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.watchers {
		s := w.session
		if s == nil {
			differences = append(differences, fmt.Sprintf("client %s is not connected", w.name))
			continue
		}
		if s.v2 != nil && s.v2.stale && !c.inDoubtLocked(s) {
			differences = append(differences, fmt.Sprintf("client %s, connection %d: was told that its rows may be out of date, and nothing since", w.name, s.number))
		}
		for k := range w.keys {
			if d := s.difference(k, truth); d != "" {
				differences = append(differences, fmt.Sprintf("client %s, connection %d: %s", w.name, s.number, d))
			}
		}
	}
	return differences
}

func (s *session) difference(k shared.EntityKey, truth map[shared.EntityKey]row) string {
	if s.checker.ignored[k] {
		return ""
	}
	there, exists := truth[k]
	if s.v2 != nil {
		if d, known := s.differenceV2(k, there, exists); known {
			return d
		}
	}
	if !exists {
		return "" // the classic wire does not say that a row is gone
	}
	want, err := there.seenBy(s.identity)
	if err != nil {
		return "" // nor that it may not be seen
	}
	switch has, any := s.last[k]; {
	case !any:
		return fmt.Sprintf("has nothing of %s, want %s", k.Hash(), want.state())
	case !has.sameState(want):
		return fmt.Sprintf("has %s of %s, want %s", has.state(), k.Hash(), want.state())
	case has.For != want.For:
		return fmt.Sprintf("has a row of %s fetched for %s, want one for %s", k.Hash(), has.For, want.For)
	}
	return ""
}

// rows returns how many rows of a key a client got on its connection, and the last.
func (c *checker) rows(w *watcher, k shared.EntityKey) (n int, last row) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.session == nil {
		return 0, row{}
	}
	return w.session.got[k], w.session.last[k]
}

// some shows the first few of a long list.
func some(list []string) string {
	slices.Sort(list)
	if n := len(list); n > 8 {
		list = append(slices.Clone(list[:8]), fmt.Sprintf("and %d more", n-8))
	}
	return strings.Join(list, "\n")
}
