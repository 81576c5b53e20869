package revocation

import (
	"context"
	"encoding/binary"
	"log/slog"
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/web/wire"
)

// Session is what a List can end.
type Session interface {
	// Who returns the digest of the secret that the session goes by, and when the
	// application was asked about the secret.
	Who() (Digest, Moment)

	// Revoke ends the session with a close code of package wire.
	Revoke(code int)
}

// Config is what a List needs. All of it is required.
type Config struct {
	// Publish has every node hear texts, this one among them.
	Publish func(ctx context.Context, texts ...string) error

	// Start runs work in a goroutine that somebody waits for, unless the node closes.
	Start func(work func()) bool

	// Leaving ends when the node closes: all sessions end then.
	Leaving context.Context

	// Occupied reports whether there are sessions, or some are about to begin.
	Occupied func() bool

	Clock  func() time.Time
	Logger *slog.Logger
}

// List is what one node has heard of revocations, and the sessions that they may be about.
// A node goes by the order in which it hears things, so that the clocks of two nodes do not
// matter:
//
// A revocation ends the sessions that the node has when it first hears the revocation, and
// those that are being let in then: whose secret the application was asked about before. A
// revocation spares those whose secret the application is asked about afterwards. A node
// that hears a revocation again ignores it, by its id.
//
// A node that has missed a revocation hears it when it is repeated, with how long ago it was
// given. The node then spares the sessions that are younger than that by both clocks of the
// node, of which one stands still while the machine sleeps, and the other can be set. A
// revocation seems younger by the time that it was under way: no session escapes it, and a
// client that came to a node after the revocation was given, and before the node heard it,
// may be sent away once more.
//
// A node remembers the last maxKnown revocations. A session that was being let in while
// earlier ones came is asked to connect anew.
type List struct {
	config Config

	mu       sync.Mutex // guards what follows
	heard    uint64     // how many revocations, each counted once
	known    map[string]struct{}
	reaches  map[subject]reach
	ring     []remembered // from oldest on the oldest, and once around
	oldest   int
	forgot   uint64            // the number of the last revocation that is not remembered any more
	bySecret map[uint64]*Place // the first of those with equal parts of a digest
	pending  map[subject]reach // to be applied
	applying bool              // a goroutine does
	news     chan struct{}     // has a value when there is something new for that goroutine
	recent   []given           // by this node, the earliest first
	wanted   repetition
	repeatAt time.Time // not before
	repeats  bool      // a goroutine does
}

// maxKnown bounds the revocations that a node remembers: to have heard, and to have given.
const maxKnown = 10_000

// NewList returns a List of no sessions.
func NewList(c Config) *List {
	return &List{config: c, news: make(chan struct{}, 1)}
}

// remembered is a revocation that was heard.
type remembered struct {
	id      string
	subject subject
	number  uint64
}

// Moment is a time as revocations go by it.
type Moment struct {
	heard uint64 // revocations that the node had heard
	at    time.Time
}

// reach says which sessions the revocations of one subject end.
type reach struct {
	all    uint64    // those that began before this revocation was heard
	old    uint64    // those that began before this revocation was heard, and
	before time.Time // before this by one of the clocks
	last   uint64    // the last of the revocations
	due    time.Time // when it is applied
}

func (r reach) covers(b Moment) bool {
	return b.heard < r.all || b.heard < r.old && (b.at.Before(r.before) || b.at.Round(0).Before(r.before.Round(0)))
}

// join adds the reach of another revocation.
func (r reach) join(o reach) reach {
	if r.last == 0 {
		return o
	}
	r.all, r.old, r.last = max(r.all, o.all), max(r.old, o.old), max(r.last, o.last)
	if o.before.After(r.before) {
		r.before = o.before
	}
	if o.due.Before(r.due) {
		r.due = o.due
	}
	return r
}

// Now returns what time it is for revocations. A session's Moment is from before the
// application is asked about its secret: what is withdrawn from then on may not be known to
// the application yet.
func (l *List) Now() Moment {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Moment{l.heard, l.config.Clock()}
}

// Known returns how many revocations the node remembers.
func (l *List) Known() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.known)
}

// hearLocked takes a revocation, and reports whether it is new and a session here may be
// meant.
func (l *List) hearLocked(v revocation, now time.Time) bool {
	if _, again := l.known[v.id]; again {
		return false
	}
	l.heard++
	r := reach{last: l.heard, due: now}
	if v.age == 0 {
		r.all = l.heard
	} else {
		r.old, r.before = l.heard, now.Add(-v.age)
	}
	if v.code == wire.CloseDisconnected {
		r.due = now.Add(spread)
	}
	l.rememberLocked(remembered{v.id, v.subject, l.heard}, r)
	if l.bySecret[v.digest.part()] == nil {
		return false
	}
	if l.pending == nil {
		l.pending = make(map[subject]reach)
	}
	l.pending[v.subject] = l.pending[v.subject].join(r)
	return true
}

// spread is how long a node waits before it tells sessions to connect anew, so that the
// other nodes have heard the revocation before the first of them does.
const spread = 200 * time.Millisecond

// rememberLocked remembers a revocation in the place of the earliest one, where there are
// too many.
func (l *List) rememberLocked(m remembered, r reach) {
	if l.known == nil {
		l.known, l.reaches = make(map[string]struct{}), make(map[subject]reach)
	}
	if len(l.ring) < maxKnown {
		l.ring = append(l.ring, m)
	} else {
		old := l.ring[l.oldest]
		delete(l.known, old.id)
		if l.reaches[old.subject].last == old.number {
			delete(l.reaches, old.subject)
		}
		l.forgot = old.number
		l.ring[l.oldest] = m
		l.oldest = (l.oldest + 1) % maxKnown
	}
	l.known[m.id] = struct{}{}
	l.reaches[m.subject] = l.reaches[m.subject].join(r)
}

// verdictLocked says how a session is sent away that goes by a secret from now on; 0 where
// no revocation is about it.
func (l *List) verdictLocked(d Digest, b Moment) (code int) {
	if d == digestOfNone {
		return 0
	}
	for _, code := range [...]int{wire.CloseRevoked, wire.CloseDisconnected} {
		if l.reaches[subject{d, code}].covers(b) {
			return code
		}
	}
	if b.heard < l.forgot {
		return wire.CloseDisconnected // there may have been one
	}
	return 0
}

// dueLocked takes what is to be applied now, and returns how long it is
// until the next is; 0 without one.
func (l *List) dueLocked(now time.Time) (due map[subject]reach, next time.Duration) {
	for s, r := range l.pending {
		left := r.due.Sub(now)
		if left > 0 {
			if next == 0 || left < next {
				next = left
			}
			continue
		}
		if due == nil {
			due = make(map[subject]reach)
		}
		due[s] = r
		delete(l.pending, s)
	}
	return due, next
}

// Place is where a session stands among those that may go by the same secret. The zero
// Place is none. A List guards it.
type Place struct {
	session    Session // nil for one that is in no list
	part       uint64
	prev, next *Place
}

// part is what sessions are found by.
func (d Digest) part() uint64 { return binary.LittleEndian.Uint64(d[:]) }

// Enter has revocations find the session by the secret that it goes by now. It returns the
// close code with which the session is to end, because a revocation came while it was let
// in; 0 where none did.
func (l *List) Enter(p *Place, s Session) (code int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d, since := s.Who()
	l.enterLocked(p, s, d)
	return l.verdictLocked(d, since)
}

func (l *List) enterLocked(p *Place, s Session, d Digest) {
	l.leaveLocked(p)
	if d == digestOfNone {
		return // about which there are none
	}
	if l.bySecret == nil {
		l.bySecret = make(map[uint64]*Place)
	}
	first := l.bySecret[d.part()]
	*p = Place{session: s, part: d.part(), next: first}
	if first != nil {
		first.prev = p
	}
	l.bySecret[d.part()] = p
}

// Leave takes a session out of the list, if it is there.
func (l *List) Leave(p *Place) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leaveLocked(p)
}

func (l *List) leaveLocked(p *Place) {
	switch {
	case p.session == nil:
		return
	case p.prev != nil:
		p.prev.next = p.next
	case p.next != nil:
		l.bySecret[p.part] = p.next
	default:
		delete(l.bySecret, p.part)
	}
	if p.next != nil {
		p.next.prev = p.prev
	}
	*p = Place{}
}

// sessions returns those that may go by a secret.
func (l *List) sessions(d Digest) (all []Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := l.bySecret[d.part()]; p != nil; p = p.next {
		all = append(all, p.session)
	}
	return all
}
