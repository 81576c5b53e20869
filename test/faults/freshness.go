package faults

import (
	"maps"
	"time"

	"github.com/entity-sync/entity-sync/shared"
)

const (
	// tellWithin is how soon a v2 client is told that its node cannot vouch for
	// its rows any more; like noticeWithin by the clock of session.ask.
	tellWithin = 5 * time.Second

	// noticeWithin is how soon a node notices that a notification was lost, six
	// seconds, and what a busy machine may add to that. Until then nobody can be told.
	noticeWithin = 8 * time.Second
)

// commit is a state of a row that was written.
type commit struct {
	row
	at time.Time // when it was announced to everybody
}

// history is what was written of a row.
type history struct {
	newest    row      // committed, announced or not
	announced []commit // the last of those that were, in order
}

// maxHistory is how many announced states of a row are remembered. Who has an older
// one than these is taken to lack the earliest of them alone.
const maxHistory = 500

// wrote says what was written, and whether that was announced.
func (c *checker) wrote(q writeRequest, a written) {
	if q.Do != update {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.written[q.Key]
	if h == nil {
		h = &history{}
		c.written[q.Key] = h
	}
	r := row{Entity: q.Key.Entity, ID: q.Key.ID, Nonce: a.Nonce, Rev: a.Rev}
	if h.newest.before(r) {
		h.newest = r
	}
	if a.Error != "" {
		return
	}
	if n := len(h.announced); n > 0 && r.before(h.announced[n-1].row) {
		return
	}
	h.announced = append(h.announced, commit{r, time.Now()})
	if len(h.announced) > 2*maxHistory {
		h.announced = append([]commit(nil), h.announced[maxHistory:]...)
	}
}

// told says that the client was told how far it can trust its rows.
func (s *session) told(stale bool) {
	v := s.v2
	if v.stale == stale {
		s.breach("INV5", "was told twice in a row: stale %v", stale)
	}
	v.stale = stale
	v.news = append(v.news, news{stale, time.Now()})
	if stale {
		return
	}
	for k, want := range v.owed {
		has, any := s.last[k]
		_, gone := v.gone[k]
		if any && !gone && v.subscribed(k) && has.before(want) {
			s.breach("INV5", "was told that it is up to date with %s of %s, while %s was there before the fault ended", has.state(), k.Hash(), want.state())
		}
	}
	v.owed = nil
	s.listen()
}

// listen checks that a client which was not told otherwise is not behind for
// longer than a node may take to notice.
func (s *session) listen() {
	v := s.v2
	if v.stale || v.since(v.ackedAt) < noticeWithin {
		return
	}
	for k, began := range v.live {
		if v.since(began) < noticeWithin {
			continue // it may have nothing but what it had before
		}
		has, any := s.last[k]
		h := s.checker.written[k]
		if !any || h == nil || v.silent[k] || len(h.announced) == 0 || !has.before(h.announced[len(h.announced)-1].row) {
			continue
		}
		for _, c := range h.announced {
			if !has.before(c.row) || c.at.Before(v.gone[k]) {
				continue
			}
			if late := v.since(c.at); late > noticeWithin {
				v.silent[k] = true
				s.breach("INV5", "has %s of %s, was not told that it may be out of date, and %s was announced %v ago, in which it and its node had %v",
					has.state(), k.Hash(), c.state(), round(time.Since(c.at)), late)
			}
			break
		}
	}
}

// listen is that for everybody.
func (c *checker) listen() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.watchers {
		if w.session != nil && w.session.v2 != nil {
			w.session.listen()
		}
	}
}

// doubt is a time in which nodes cannot vouch for the rows of their clients.
type doubt struct {
	checker  *checker
	nodes    map[string]bool // by address
	began    time.Time
	sessions []*session // that there were in it
}

// doubt says that from now on the nodes of some addresses, or all, can vouch for
// nothing that their clients watch.
func (c *checker) doubt(addrs ...string) *doubt {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := &doubt{checker: c, nodes: make(map[string]bool), began: time.Now()}
	for _, a := range addrs {
		d.nodes[a] = true
	}
	c.doubts = append(c.doubts, d)
	for _, w := range c.watchers {
		if w.session != nil && w.session.v2 != nil {
			d.note(w.session)
		}
	}
	return d
}

func (d *doubt) note(s *session) {
	if d.nodes[s.v2.addr] {
		d.sessions = append(d.sessions, s)
	}
}

func (c *checker) inDoubtLocked(s *session) bool {
	for _, d := range c.doubts {
		if d.nodes[s.v2.addr] {
			return true
		}
	}
	return false
}

// end says that the fault is about to end. It checks that everybody was told in
// time, and nobody was told too early that it is over, and returns how many were
// told and how long the last of them took. Whoever was told so is owed, with the
// word that it is over, all that is written by now.
func (d *doubt) end() (told int, slowest time.Duration) {
	c := d.checker
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for i, other := range c.doubts {
		if other == d {
			c.doubts = append(c.doubts[:i:i], c.doubts[i+1:]...)
			break
		}
	}
	newest := make(map[shared.EntityKey]row, len(c.written))
	for k, h := range c.written {
		newest[k] = h.newest
	}
	answered := len(d.sessions) == 0 || now.Sub(d.began) < tellWithin
	for _, s := range d.sessions {
		answered = answered || s.v2.between(d.began, now) > 0
		if after, was := s.toldSince(d.began, now); was {
			told++
			slowest = max(slowest, after)
		}
		if s.v2.stale && s.v2.closed.IsZero() {
			s.v2.owed = maps.Clone(newest)
		}
	}
	if !answered { // or nothing of this could be found
		c.breachLocked("INV5: of all that clients asked their nodes nothing was answered")
	}
	return told, slowest
}

// anyTold reports whether a client was told since the fault began, or before and not otherwise since.
func (d *doubt) anyTold() bool {
	c := d.checker
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range d.sessions {
		if s.v2.stale { // perhaps since before
			return true
		}
		for _, n := range s.v2.news {
			if n.stale && n.at.After(d.began) {
				return true
			}
		}
	}
	return false
}

// toldSince checks what a client was told during a doubt, and returns how long
// that took.
func (s *session) toldSince(began, ended time.Time) (after time.Duration, told bool) {
	v := s.v2
	if v.first.IsZero() || len(v.live) == 0 {
		return 0, false // it watches nothing
	}
	if v.first.After(began) {
		began = v.first
	}
	if !v.closed.IsZero() {
		ended = v.closed
	}
	var at time.Time
	for _, n := range v.news {
		switch {
		case n.at.After(ended):
		case n.stale && at.IsZero():
			at = n.at
		case !n.stale && v.between(began, n.at) < tellWithin:
			at = time.Time{} // the node did not know yet
		case !n.stale && !at.IsZero():
			s.breach("INV5", "was told that it is up to date %v after its node could not know", round(n.at.Sub(began)))
			return 0, false
		}
	}
	if at.IsZero() {
		if waited := v.between(began, ended); waited > tellWithin {
			s.breach("INV5", "was not told within %v that its rows may be out of date", round(waited))
		}
		return 0, false
	}
	after = max(0, at.Sub(began))
	if had := v.between(began, at); had > tellWithin {
		s.breach("INV5", "was told after %v, in which it and its node had %v, that its rows may be out of date, want %v at most", round(after), had, tellWithin)
	}
	return after, true
}

// doubt says that from now on nodes, or all where none are given, cannot vouch for
// anything; the function that it returns says that this is about to end. what is
// for the figures.
func (w *world) doubt(what string, nodes ...*node) (end func()) {
	w.t.Helper()
	if len(nodes) == 0 {
		nodes = w.nodes
	}
	var addrs []string
	for _, n := range nodes {
		addrs = append(addrs, n.Addr)
	}
	d := w.check.doubt(addrs...)
	return func() {
		w.t.Helper()
		// A node is not ready as soon as one entity type has lost the bus. Its clients are
		// told when theirs has, perhaps a moment later.
		for end := time.Now().Add(patience); !d.anyTold() && time.Now().Before(end); {
			time.Sleep(10 * time.Millisecond)
		}
		told, slowest := d.end()
		w.t.Logf("%s: %d clients were told, the last after %v", what, told, round(slowest))
		if told == 0 {
			w.check.breach("INV5: %s: nobody was told that rows may be out of date", what)
		}
	}
}
