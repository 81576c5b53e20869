package sendqueue

import (
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/internal/conflate"
	"github.com/entity-sync/entity-sync/internal/eventqueue"
)

// Queue holds the frames and updates that wait to be written to one client. While any wait,
// the Group's flusher is about to write them, or a writer of the Queue's own is alive.
type Queue[U Update] struct {
	// The fields that writing a row touches come first, close together: with thousands of
	// clients, few of them are in the processor's caches.
	mu        sync.Mutex
	updates   conflate.Queue[U] // the lane of the newest: one for each key, in the order in which the keys first had one
	bytes     int               // of updates
	next      *Queue[U]         // in the flusher
	group     *Group[U]
	transport Transport
	encoder   Encoder[U]
	expires   int64 // when the secret expires, by the wall clock in milliseconds; zero for never
	held      int32 // above zero no update is written
	stale     int32 // how many of the client's subscriptions are stale; at zero the client is fresh
	immediate bool  // the transport takes something at once
	lapsed    bool  // the secret has expired, so that no update is written
	writing   bool  // the flusher or a writer writes what waits
	urgent    bool  // something besides updates waits
	ending    bool  // nothing more is accepted

	overflow overflow
	told     bool // the client was last told that it is fresh
	ping     bool
	rest     *rest            // what waits besides updates; nil if nothing does, as for most clients
	news     conflate.Slot[U] // waits among the updates, to tell the client whether it is fresh; see AddStale
	change   *sync.Cond       // there is more room, or writing has ended; nil before a goroutine waits for that

	owner Owner
}

// overflow is whether too much was waiting, and whether the owner was told of that.
type overflow uint8

const (
	noOverflow overflow = iota
	newOverflow
	toldOverflow
)

// rest holds what waits besides updates.
type rest struct {
	pong    []byte // an answer to the client's newest ping
	notice  []byte // something the client should know soon
	ordered lane
	events  *eventqueue.Queue
	last    []byte    // the frame after which no other is written
	endBy   time.Time // when all must have been written
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

// Init makes q, which must be zero, a Queue of the Group.
func (g *Group[U]) Init(q *Queue[U], o Options[U]) {
	q.group, q.transport, q.encoder, q.owner, q.immediate = g, o.Transport, o.Encoder, o.Owner, o.Immediate
	q.told = true
}

// Push queues an update, in place of one that still waits in slot. It does not wait.
func (q *Queue[U]) Push(slot *conflate.Slot[U], u U) {
	q.put(func() {
		q.forget(slot)
		q.updates.Put(slot, u)
		if q.bytes += u.Bytes(); q.bytes > q.group.config.MaxBytes {
			q.overflowLocked()
		}
	})
}

// forget subtracts the bytes of the update in a slot.
func (q *Queue[U]) forget(slot *conflate.Slot[U]) {
	if u, waits := slot.Waiting(); waits {
		q.bytes -= u.Bytes()
	}
}

// forgetAllLocked drops all updates and events.
func (q *Queue[U]) forgetAllLocked() {
	if q.eventsWaitLocked() {
		q.rest.events.Clear()
	}
	for {
		if _, _, ok := q.updates.Pop(); !ok {
			q.bytes = 0
			return
		}
	}
}

// forgetHeldLocked drops the updates of a queue that ends while they are held: the secret that
// they are for is just being changed, or has expired, or the request that they answer will not
// be acknowledged any more.
func (q *Queue[U]) forgetHeldLocked() {
	if (q.held > 0 || q.lapsed) && q.ending {
		q.forgetAllLocked()
	}
}

// overflowLocked gives up a client for which too much is waiting.
func (q *Queue[U]) overflowLocked() {
	q.forgetAllLocked()
	r := q.restLocked()
	r.ordered.clear()
	r.last = q.transport.Close(q.group.config.OverflowCode, q.group.config.OverflowReason)
	r.endBy = time.Now().Add(q.group.config.EndTimeout)
	q.ending, q.overflow, q.urgent = true, newOverflow, true
	q.changedLocked()
}

// HasOverflowed reports whether the client was given up because too much was waiting.
func (q *Queue[U]) HasOverflowed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.overflow != noOverflow
}

// Drop takes back the update in slot, and reports whether there was one.
func (q *Queue[U]) Drop(slot *conflate.Slot[U]) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.forget(slot)
	return q.updates.Drop(slot)
}

// AddStale adds to the number of stale subscriptions. The client is told when the number
// leaves zero or comes back to zero. It is told that all are fresh after the updates that make
// them so. It is not told of a change that was undone before it could be told.
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

// encode returns the frames of an update that was in a slot.
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

// Hold keeps updates from being written until Release, which must follow as often. It is for
// answering a request before the updates that it causes, and for writing the last row of an
// old secret before the first row of the new one.
func (q *Queue[U]) Hold() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held++
}

// Release ends one Hold.
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

// Send queues a frame in order, after the earlier ones. It waits while most frames, MaxOrdered
// or MaxOrderedBytes are queued. It returns true once the frame is queued, and false if the
// Queue is ending.
func (q *Queue[U]) Send(frame []byte, most int) bool {
	return q.send(frame, min(most, MaxOrdered), false)
}

// Reply is Send for the answer to a request: updates that are held, or come later, are written
// after it.
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

// End accepts nothing more. It writes frame, if there is one, after everything that waits and
// is not held. Only the first call counts.
func (q *Queue[U]) End(frame []byte) {
	q.putUrgent(func() {
		r := q.restLocked()
		r.last, r.endBy = frame, time.Now().Add(q.group.config.EndTimeout)
		q.ending = true
		q.forgetHeldLocked()
		q.changedLocked()
	})
}

// Wait returns when all has been written, once End was called.
func (q *Queue[U]) Wait() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.writing {
		q.waitLocked()
	}
}

// put adds something that is to be written.
func (q *Queue[U]) put(add func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.ending {
		add()
		q.startLocked()
	}
}

// putUrgent adds something that is written before the updates.
func (q *Queue[U]) putUrgent(add func()) {
	q.put(func() {
		add()
		q.urgent = true
	})
}

// ExpireAt stops updates from being written from a time of the wall clock on. It uses no
// timer, because a timer does not follow that clock when it is set.
func (q *Queue[U]) ExpireAt(at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.expires, q.lapsed = 0, false
	if !at.IsZero() {
		q.expires = at.UnixMilli() + 1 // rounded up
	}
	if q.waitsLocked() {
		q.startLocked()
	}
}

// hasLapsedLocked reads the clock. A batch of updates costs one reading, and none if the
// secret does not expire.
func (q *Queue[U]) hasLapsedLocked() bool {
	if q.expires != 0 && !q.lapsed {
		q.lapsed = q.group.config.Clock().UnixMilli() >= q.expires
	}
	return q.lapsed
}
