package web

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/web/wire"
)

// orders is what one node has heard of orders about sessions. Every node goes by its own
// hearing, so that it does not matter what the clocks of two nodes say:
//
// An order ends the sessions that the node has when it first hears the order, and those
// that are being let in then: whose secret the application was asked about before. It
// spares those whose secret the application is asked about afterwards. A node that hears
// the order again ignores it, by the order's id.
//
// A node that has missed an order hears it when it is repeated, with how long ago it was
// given. It then spares the sessions that are younger than that by both clocks of this
// node, of which one stands still while the machine sleeps, and the other can be set. An
// order seems younger by the time that it was under way: nobody escapes it, and a client
// that came to a node after the order was given, and before the node heard it, may be
// sent away once more.
//
// What a node remembers of orders are the last maxOrders. A session that was being let in
// while earlier ones came is asked to connect anew.
type orders struct {
	disabled error            // why there are none
	clock    func() time.Time // nil means time.Now

	mu       sync.Mutex // before a session's
	heard    uint64     // how many orders, each counted once
	known    map[string]struct{}
	reaches  map[subject]reach
	ring     []remembered // from oldest on the oldest, and once around
	oldest   int
	forgot   uint64              // the number of the last order that is not remembered any more
	bySecret map[uint64]*session // the first of those with equal parts of a digest
	pending  map[subject]reach   // to be carried out
	given    []given             // by this node, in the last while, the earliest first
	working  bool                // a goroutine carries them out
	news     chan struct{}       // has a value when there is something new for who works
	say      says
	sayNext  time.Time // not before
	saying   bool      // a goroutine does
}

// maxOrders bounds the orders that a node remembers: to have heard, and to have given.
const maxOrders = 10_000

// remembered is an order that was heard.
type remembered struct {
	id      string
	subject subject
	number  uint64
}

// beginning is when the application was asked about a secret.
type beginning struct {
	heard uint64 // orders that the node had heard
	at    time.Time
}

// reach says which sessions orders of one subject end.
type reach struct {
	all    uint64    // those that began before this order was heard
	old    uint64    // those that began before this order was heard, and
	before time.Time // before this by one of the clocks
	last   uint64    // the last of the orders
	due    time.Time // when it is carried out
}

func (r reach) covers(b beginning) bool {
	return b.heard < r.all || b.heard < r.old && (b.at.Before(r.before) || b.at.Round(0).Before(r.before.Round(0)))
}

// join adds the reach of another order.
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

func (o *orders) now() time.Time {
	if o.clock == nil {
		return time.Now()
	}
	return o.clock()
}

// beginning returns what time it is for orders.
func (o *orders) beginning() beginning {
	o.mu.Lock()
	defer o.mu.Unlock()
	return beginning{o.heard, o.now()}
}

// hearLocked takes an order, and reports whether it is new and anybody here may be meant.
func (o *orders) hearLocked(order order, now time.Time) bool {
	if _, again := o.known[order.id]; again {
		return false
	}
	o.heard++
	r := reach{last: o.heard, due: now}
	if order.age == 0 {
		r.all = o.heard
	} else {
		r.old, r.before = o.heard, now.Add(-order.age)
	}
	if order.code == wire.CloseDisconnected {
		r.due = now.Add(spread)
	}
	o.rememberLocked(remembered{order.id, order.subject, o.heard}, r)
	if o.bySecret[order.digest.part()] == nil {
		return false
	}
	if o.pending == nil {
		o.pending = make(map[subject]reach)
	}
	o.pending[order.subject] = o.pending[order.subject].join(r)
	return true
}

// spread is how long a node waits before it tells sessions to connect anew, so that the
// other nodes have heard the order before the first of them does.
const spread = 200 * time.Millisecond

// rememberLocked remembers an order in the place of the earliest one, where there are
// too many.
func (o *orders) rememberLocked(m remembered, r reach) {
	if o.known == nil {
		o.known, o.reaches = make(map[string]struct{}), make(map[subject]reach)
	}
	if len(o.ring) < maxOrders {
		o.ring = append(o.ring, m)
	} else {
		old := o.ring[o.oldest]
		delete(o.known, old.id)
		if o.reaches[old.subject].last == old.number {
			delete(o.reaches, old.subject)
		}
		o.forgot = old.number
		o.ring[o.oldest] = m
		o.oldest = (o.oldest + 1) % maxOrders
	}
	o.known[m.id] = struct{}{}
	o.reaches[m.subject] = o.reaches[m.subject].join(r)
}

// verdictLocked says how a session is sent away that has just become somebody whom an
// order is about; 0 where none is.
func (o *orders) verdictLocked(d digest, b beginning) (code int) {
	if d == digestOfNone {
		return 0
	}
	for _, code := range [...]int{wire.CloseRevoked, wire.CloseDisconnected} {
		if o.reaches[subject{d, code}].covers(b) {
			return code
		}
	}
	if b.heard < o.forgot {
		return wire.CloseDisconnected // there may have been one
	}
	return 0
}

// dueLocked takes those orders that are to be carried out now, and returns how long it is
// until the next is; 0 without one.
func (o *orders) dueLocked(now time.Time) (due map[subject]reach, next time.Duration) {
	for s, r := range o.pending {
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
		delete(o.pending, s)
	}
	return due, next
}

// place is where a session stands among those that may go by the same secret, guarded by
// orders.mu.
type place struct {
	part       uint64
	prev, next *session
	taken      bool
}

// part is what sessions are found by.
func (d digest) part() uint64 { return binary.LittleEndian.Uint64(d[:]) }

// enterLocked has orders about a secret find the session.
func (o *orders) enterLocked(s *session, d digest) {
	o.leaveLocked(s)
	if d == digestOfNone {
		return // about which there are none
	}
	if o.bySecret == nil {
		o.bySecret = make(map[uint64]*session)
	}
	first := o.bySecret[d.part()]
	s.place = place{part: d.part(), next: first, taken: true}
	if first != nil {
		first.place.prev = s
	}
	o.bySecret[d.part()] = s
}

func (o *orders) leaveLocked(s *session) {
	p := s.place
	switch {
	case !p.taken:
		return
	case p.prev != nil:
		p.prev.place.next = p.next
	case p.next != nil:
		o.bySecret[p.part] = p.next
	default:
		delete(o.bySecret, p.part)
	}
	if p.next != nil {
		p.next.place.prev = p.prev
	}
	s.place = place{}
}

func (o *orders) leave(s *session) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.leaveLocked(s)
}

// sessions returns those that may go by a secret.
func (o *orders) sessions(d digest) (all []*session) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for s := o.bySecret[d.part()]; s != nil; s = s.place.next {
		all = append(all, s)
	}
	return all
}
