package revocation

import (
	"context"
	"encoding/binary"
	"log/slog"
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/web/wire"
)

// Session is a session that a List can end.
type Session interface {
	// Who returns the digest of the secret that the session goes by, and when the
	// application was asked about the secret.
	Who() (Digest, Moment)

	// Revoke ends the session with a close code of package wire.
	Revoke(code int)
}

// Config configures a List. All fields are required.
type Config struct {
	// Publish publishes texts to every node, this one among them.
	Publish func(ctx context.Context, texts ...string) error

	// Start runs work in a goroutine for which the node's end waits, unless the node closes.
	Start func(work func()) bool

	// Leaving ends when the node closes: all sessions end then.
	Leaving context.Context

	// Occupied reports whether there are sessions, or clients that are being let in.
	Occupied func() bool

	Clock  func() time.Time
	Logger *slog.Logger
}

// List holds the revocations that one node has heard, and the sessions that they may be about.
// A node goes by the order in which it hears them, so that the clocks of two nodes do not
// matter:
//
// A revocation ends the sessions that the node has when it first hears the revocation, and
// those that are being let in at that time: the application was asked about their secret
// before. It spares a session if the application is asked about the secret afterwards. A node
// that hears a revocation again ignores it, by its id.
//
// A node that has missed a revocation hears it when it is repeated, together with its age. The
// node then spares the sessions that are younger than that age by both of the node's clocks:
// one stands still while the machine sleeps, and the other can be set. The age leaves out the
// time that the repetition was under way, so the revocation seems younger than it is. So no
// session escapes it. A client that came to a node after the revocation was given, and before
// the node heard it, may be sent away once more.
//
// A node remembers the last maxKnown revocations. If more come while a session is being let
// in, the session is asked to connect anew.
type List struct {
	config Config

	mu       sync.Mutex // guards what follows
	heard    uint64     // how many revocations, each counted once
	known    map[string]struct{}
	reaches  map[subject]reach
	ring     []remembered // the oldest one is at oldest
	oldest   int
	forgot   uint64            // the number of the last revocation that was forgotten
	bySecret map[uint64]*Place // the first place in each list of those with equal digest parts
	pending  map[subject]reach // to be applied
	applying bool              // a goroutine applies them
	news     chan struct{}     // has a value when there is something new for that goroutine
	recent   []given           // this node's own revocations, the earliest first
	wanted   repetition
	repeatAt time.Time // wanted is published no sooner
	repeats  bool      // a goroutine publishes it
}

// maxKnown bounds how many revocations a node remembers of those that it has heard, and of
// those that it has given.
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

// Moment is a time in the order of revocations.
type Moment struct {
	heard uint64 // revocations that the node had heard
	at    time.Time
}

// reach says which sessions the revocations of one subject end.
type reach struct {
	all    uint64    // ends sessions that began before this revocation was heard
	old    uint64    // ends sessions that began before this revocation was heard, and
	before time.Time // before this time by one of the clocks
	last   uint64    // the last of the revocations
	due    time.Time // when they are applied
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

// Now returns the present Moment. A session's Moment is taken before the application is asked
// about its secret, because the application may not know yet of a withdrawal from then on.
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

// hearLocked takes a revocation. It reports whether the revocation is new, and may be about a
// session here.
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

// spread is how long a node waits before it tells sessions to connect anew, so that the other
// nodes have heard the revocation before the first client comes to them.
const spread = 200 * time.Millisecond

// rememberLocked remembers a revocation. If there are too many, it replaces the earliest one.
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

// verdictLocked returns the close code for a session that goes by a secret from now on, or 0
// if no revocation is about the session.
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
		return wire.CloseDisconnected // a revocation that was forgotten may be about it
	}
	return 0
}

// dueLocked takes the revocations to be applied now, and returns how long it is until the next
// one; 0 if there is none.
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

// Place is a session's place in the list of those that may go by the same secret. The zero
// Place is in no list. A List guards it.
type Place struct {
	session    Session // nil if it is in no list
	part       uint64
	prev, next *Place
}

// part returns the part of a digest by which sessions are found.
func (d Digest) part() uint64 { return binary.LittleEndian.Uint64(d[:]) }

// Enter lets revocations find the session by its present secret. If a revocation came while
// the session was let in, Enter returns the close code to end it with, and 0 otherwise.
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
		return // no revocation is about the empty secret
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

// sessions returns the sessions that may go by a secret.
func (l *List) sessions(d Digest) (all []Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := l.bySecret[d.part()]; p != nil; p = p.next {
		all = append(all, p.session)
	}
	return all
}
