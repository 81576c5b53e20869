package sendqueue

import (
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/internal/conflate"
)

// Queue is what waits to be written to one client. While something waits, either the
// Group's flusher sees to it or a writer of the Queue's own is alive.
type Queue[U Update] struct {
	// What a row that is written touches comes first, close together: of thousands
	// of clients little of it is in the processor's caches.
	mu        sync.Mutex
	updates   conflate.Queue[U] // the lane of the newest: one for each key, in the order in which the keys first had one
	bytes     int               // of updates
	next      *Queue[U]         // in the flusher
	group     *Group[U]
	transport Transport
	encoder   Encoder[U]
	expires   int64 // when the secret does, by the wall clock, see ExpireAt; zero for never
	held      int32 // above zero no update is written
	stale     int32 // how much of what was sent is stale; zero makes it fresh
	immediate bool  // the transport takes something at once
	lapsed    bool  // the secret has expired: no update is written, either
	writing   bool  // the flusher or a writer sees to what waits
	urgent    bool  // something besides updates waits
	ending    bool  // nothing more is taken

	overflow overflow
	told     bool // that it is fresh, as was said last
	ping     bool
	rest     *rest            // what else waits; nil for nothing, as for most clients
	news     conflate.Slot[U] // waits among the updates to say whether it is fresh; see AddStale
	change   *sync.Cond       // there is more room, or writing has ended; nil before somebody waits for it

	owner Owner
}

// overflow is whether too much came together, and whether the owner was told.
type overflow uint8

const (
	noOverflow overflow = iota
	newOverflow
	toldOverflow
)

// rest is what waits besides updates.
type rest struct {
	pong    []byte // an answer to the client's newest ping
	notice  []byte // something the client should know soon
	ordered lane
	last    []byte    // the frame that nothing follows
	endBy   time.Time // when the last of it must be written
}

// waitLocked waits for a change.
func (q *Queue[U]) waitLocked() {
	if q.change == nil {
		q.change = sync.NewCond(&q.mu)
	}
	q.change.Wait()
}

// changedLocked wakes the goroutines in waitLocked.
func (q *Queue[U]) changedLocked() {
	if q.change != nil {
		q.change.Broadcast()
	}
}

func (q *Queue[U]) restLocked() *rest {
	if q.rest == nil {
		q.rest = new(rest)
	}
	return q.rest
}

// Options describe a Queue.
type Options[U Update] struct {
	Transport Transport
	Encoder   Encoder[U]
	Owner     Owner

	// Immediate says that the transport's TryWrite takes something.
	Immediate bool
}

// Init makes q, which is zero, a Queue of the Group's.
func (g *Group[U]) Init(q *Queue[U], o Options[U]) {
	q.group, q.transport, q.encoder, q.owner, q.immediate = g, o.Transport, o.Encoder, o.Owner, o.Immediate
	q.told = true
}

// Push has an update written, in place of one that still waits in slot. It does not wait.
func (q *Queue[U]) Push(slot *conflate.Slot[U], u U) {
	q.put(func() {
		q.forget(slot)
		q.updates.Put(slot, u)
		if q.bytes += u.Bytes(); q.bytes > q.group.config.MaxBytes {
			q.overflowLocked()
		}
	})
}

// forget no longer counts what waits in a slot.
func (q *Queue[U]) forget(slot *conflate.Slot[U]) {
	if u, waits := slot.Waiting(); waits {
		q.bytes -= u.Bytes()
	}
}

// forgetAllLocked drops all updates.
func (q *Queue[U]) forgetAllLocked() {
	for {
		if _, _, ok := q.updates.Pop(); !ok {
			q.bytes = 0
			return
		}
	}
}

// forgetHeldLocked drops the updates of a queue that ends while they are held: they may
// be of a secret that is just being changed, or has expired, and what they answer is not
// acknowledged any more.
func (q *Queue[U]) forgetHeldLocked() {
	if (q.held > 0 || q.lapsed) && q.ending {
		q.forgetAllLocked()
	}
}

// overflowLocked gives up on a client that lets too much come together.
func (q *Queue[U]) overflowLocked() {
	q.forgetAllLocked()
	r := q.restLocked()
	r.ordered.clear()
	r.last = q.transport.Close(q.group.config.OverflowCode, q.group.config.OverflowReason)
	r.endBy = time.Now().Add(q.group.config.EndTimeout)
	q.ending, q.overflow, q.urgent = true, newOverflow, true
	q.changedLocked()
}

// HasOverflowed reports whether the client was given up because too much came together.
func (q *Queue[U]) HasOverflowed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.overflow != noOverflow
}

// Drop takes back what waits in slot, and reports whether anything did.
func (q *Queue[U]) Drop(slot *conflate.Slot[U]) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.forget(slot)
	return q.updates.Drop(slot)
}

// AddStale counts what is stale of what was sent, and has it said when it is all fresh no
// more, or again. That it is again is said after the updates that make it so; what has
// changed back before it could be said is not said at all.
func (q *Queue[U]) AddStale(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	was := q.freshLocked()
	q.stale += int32(n) //nolint:gosec // a client has fewer subscriptions
	if q.ending || q.freshLocked() == was {
		return
	}
	q.updates.Drop(&q.news)
	if q.freshLocked() != q.told {
		var none U
		q.updates.Put(&q.news, none)
		q.startLocked()
	}
}

func (q *Queue[U]) freshLocked() bool { return q.stale <= 0 }

// encode returns the frames of what was in a slot.
func (q *Queue[U]) encode(slot *conflate.Slot[U], u U) []byte {
	if slot == &q.news {
		q.told = q.freshLocked()
		return q.encoder.Freshness(q.told)
	}
	q.bytes -= u.Bytes()
	return q.encoder.Update(u)
}

// Ping asks the client whether it is there, unless the Queue is ending.
func (q *Queue[U]) Ping() { q.putUrgent(func() { q.ping = true }) }

// Pong sends a frame that answers a ping. Of several unanswered pings the newest is answered,
// as RFC 6455 section 5.5.3 allows, so a flood of them piles up nothing.
func (q *Queue[U]) Pong(frame []byte) { q.putUrgent(func() { q.restLocked().pong = frame }) }

// Hold keeps updates from being written until Release, which must follow as often:
// so that the answer to a request comes before what the request brings, and the
// last row of an old secret before the first of the new one.
func (q *Queue[U]) Hold() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held++
}

// Release ends what Hold began.
func (q *Queue[U]) Release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held--
	if q.waitsLocked() {
		q.startLocked()
	}
}

// Notice sends a frame that a later one replaces.
func (q *Queue[U]) Notice(frame []byte) { q.putUrgent(func() { q.restLocked().notice = frame }) }

// Send sends a frame in order, after those that were sent before. It waits while most
// others are waiting, or MaxOrdered or MaxOrderedBytes are, and returns true when the frame
// waits, too; false when the Queue is ending.
func (q *Queue[U]) Send(frame []byte, most int) bool {
	return q.send(frame, min(most, MaxOrdered), false)
}

// Reply is Send for the answer to a request: no update that comes later, or is held, is
// written before it.
func (q *Queue[U]) Reply(frame []byte) bool { return q.send(frame, MaxOrdered, true) }

func (q *Queue[U]) send(frame []byte, most int, reply bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.ending && !q.restLocked().ordered.hasRoom(frame, most) {
		q.waitLocked()
	}
	if q.ending {
		return false
	}
	q.restLocked().ordered.add(frame, reply)
	q.urgent = true
	q.startLocked()
	return true
}

// End takes nothing more, and writes frame, if there is one, after what waits
// already and is not held. Only the first call counts.
func (q *Queue[U]) End(frame []byte) {
	q.putUrgent(func() {
		r := q.restLocked()
		r.last, r.endBy = frame, time.Now().Add(q.group.config.EndTimeout)
		q.ending = true
		q.forgetHeldLocked()
		q.changedLocked()
	})
}

// Wait returns when nothing is written any more, once End was called.
func (q *Queue[U]) Wait() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.writing {
		q.waitLocked()
	}
}

// put adds an update, or what goes among them.
func (q *Queue[U]) put(add func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.ending {
		add()
		q.startLocked()
	}
}

// putUrgent adds what goes before the updates.
func (q *Queue[U]) putUrgent(add func()) {
	q.put(func() {
		add()
		q.urgent = true
	})
}

// ExpireAt has no update written from a time of the wall clock on. A timer does not
// follow that clock when it is set.
func (q *Queue[U]) ExpireAt(at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.expires, q.lapsed = 0, false
	if !at.IsZero() {
		q.expires = at.UnixMilli() + 1 // no earlier than it does
	}
	if q.waitsLocked() {
		q.startLocked()
	}
}

// hasLapsedLocked looks at the clock. What is written to one client at once costs one
// look, and nothing where the secret does not expire.
func (q *Queue[U]) hasLapsedLocked() bool {
	if q.expires != 0 && !q.lapsed {
		q.lapsed = q.group.config.Clock().UnixMilli() >= q.expires
	}
	return q.lapsed
}
