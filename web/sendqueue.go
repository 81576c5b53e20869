package web

import (
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/internal/conflate"
	"github.com/entity-sync/entity-sync/web/wire"
)

const (
	// maxBatch and maxBatchBytes bound what is written at once: enough that the
	// system call no longer matters, little enough that newer updates still
	// replace those that wait.
	maxBatch      = 64
	maxBatchBytes = 256 << 10

	// maxDirect bounds the frames that wait in order, without a key to conflate
	// by: rows that come through the classic function interface. Beyond it their
	// sender waits.
	maxDirect = 4
)

// sendQueue is what waits to be written to one client: the newest update of each
// key, in the order in which the keys first had one. It is the Sink of the
// session's client. While something waits, either the handler's flusher sees to it
// or a writer of the send queue's own is alive.
type sendQueue struct {
	// What a row that is written touches comes first, close together: of thousands
	// of clients little of it is in the processor's caches.
	mu      sync.Mutex
	updates conflate.Queue[*bridge.Update]
	bytes   int             // of the rows in updates
	next    *sendQueue      // in the flusher
	raw     syscall.RawConn // to write what it takes at once; nil where that cannot be
	encoder *encoder
	flusher *flusher
	held    int32 // above zero no update is written
	stale   int32 // of the client's subscriptions; zero makes it fresh
	lapsed  bool  // the secret has expired: none is, either
	expires int64 // when it does, by the wall clock, see expireAt; zero for never
	writing bool  // the flusher or a writer sees to what waits
	urgent  bool  // something besides updates waits
	ending  bool  // nothing more is taken

	overflow bool // too much came together, and the session was not told yet
	told     bool // that it is fresh, as was said last
	ping     bool
	pong     []byte // an answer to the client's newest ping
	notice   []byte // something the client should know soon
	direct   [][]byte
	last     []byte      // the close frame; nothing follows it
	endBy    time.Time   // when the last of it must be written
	news     bridge.Slot // waits among the updates to say whether it is fresh; see AddStale
	change   sync.Cond   // there is more room, or writing has ended

	conn    net.Conn
	session *session
}

func newSendQueue(conn net.Conn, s *session) *sendQueue {
	q := &sendQueue{conn: conn, session: s, encoder: s.encoder, flusher: s.handler.flusher, told: true}
	q.change.L = &q.mu
	if tcp, ok := conn.(*net.TCPConn); ok { // TLS has to make its records first
		q.raw, _ = tcp.SyscallConn()
	}
	return q
}

// Push implements bridge.Sink.
func (q *sendQueue) Push(slot *bridge.Slot, u *bridge.Update) {
	q.put(func() {
		q.forget(slot)
		q.updates.Put(slot, u)
		if q.bytes += u.Bytes(); q.bytes > q.session.handler.config.MaxQueuedBytes {
			q.overflowLocked()
		}
	})
}

// forget no longer counts what waits in a slot.
func (q *sendQueue) forget(slot *bridge.Slot) {
	if u, waits := slot.Waiting(); waits {
		q.bytes -= u.Bytes()
	}
}

// forgetAllLocked drops all updates.
func (q *sendQueue) forgetAllLocked() {
	for {
		if _, _, ok := q.updates.Pop(); !ok {
			q.bytes = 0
			return
		}
	}
}

// forgetHeldLocked drops the updates of a session that ends while they are held: they may
// be of a secret that is just being changed, or has expired, and what they answer is not
// acknowledged any more.
func (q *sendQueue) forgetHeldLocked() {
	if (q.held > 0 || q.lapsed) && q.ending {
		q.forgetAllLocked()
	}
}

// overflowLocked gives up on a client that lets too much come together.
func (q *sendQueue) overflowLocked() {
	q.forgetAllLocked()
	q.direct = nil
	q.last = closeFrame(wire.CloseSlow, "too much is waiting to be read")
	q.ending, q.overflow, q.urgent = true, true, true
	q.endBy = time.Now().Add(q.session.handler.config.WriteTimeout)
	q.change.Broadcast()
}

// overflowed reports whether the client was given up because too much came together.
func (q *sendQueue) overflowed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.overflow
}

// Drop implements bridge.Sink.
func (q *sendQueue) Drop(slot *bridge.Slot) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.forget(slot)
	return q.updates.Drop(slot)
}

// AddStale implements bridge.FreshnessSink. That the client is fresh again is said
// after the updates that make it so; what has changed back before it could be
// said is not said at all.
func (q *sendQueue) AddStale(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	was := q.freshLocked()
	q.stale += int32(n) //nolint:gosec // a client has fewer subscriptions
	if q.ending || q.freshLocked() == was {
		return
	}
	q.updates.Drop(&q.news)
	if q.freshLocked() != q.told {
		q.updates.Put(&q.news, nil)
		q.startLocked()
	}
}

func (q *sendQueue) freshLocked() bool { return q.stale <= 0 }

// encode returns the frames of what was in a slot.
func (q *sendQueue) encode(slot *bridge.Slot, u *bridge.Update) []byte {
	if slot == &q.news {
		q.told = q.freshLocked()
		return q.encoder.freshness(q.told)
	}
	q.bytes -= u.Bytes()
	return u.Encoded(q.encoder)
}

// sendPing asks the client whether it is there, unless the session is ending.
func (q *sendQueue) sendPing() { q.putUrgent(func() { q.ping = true }) }

// sendPong answers a ping. Of several unanswered pings the newest is answered,
// as RFC 6455 section 5.5.3 allows, so a flood of them piles up nothing.
func (q *sendQueue) sendPong(frame []byte) { q.putUrgent(func() { q.pong = frame }) }

// hold keeps updates from being written until release, which must follow as often:
// so that the answer to a request comes before what the request brings, and the
// last row of an old secret before the first of the new one.
func (q *sendQueue) hold() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held++
}

func (q *sendQueue) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held--
	if q.waitsLocked() {
		q.startLocked()
	}
}

// sendNotice sends a frame that a later one replaces.
func (q *sendQueue) sendNotice(frame []byte) { q.putUrgent(func() { q.notice = frame }) }

// sendDirect queues a frame that nothing replaces, and waits while too many are
// queued already. It returns true when the frame is queued, false when the session
// is ending.
func (q *sendQueue) sendDirect(frame []byte) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.direct) >= maxDirect && !q.ending {
		q.change.Wait()
	}
	if q.ending {
		return false
	}
	q.direct = append(q.direct, frame)
	q.urgent = true
	q.startLocked()
	return true
}

// end takes nothing more, and writes frame, if there is one, after what waits
// already and is not held. Only the first call counts.
func (q *sendQueue) end(frame []byte) {
	q.putUrgent(func() {
		q.last, q.ending = frame, true
		q.forgetHeldLocked()
		q.endBy = time.Now().Add(q.session.handler.config.WriteTimeout)
	})
	q.change.Broadcast()
}

// wait returns when nothing is written any more, once end was called.
func (q *sendQueue) wait() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.writing {
		q.change.Wait()
	}
}

// put adds an update, or what goes among them.
func (q *sendQueue) put(add func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.ending {
		add()
		q.startLocked()
	}
}

// putUrgent adds what goes before the updates.
func (q *sendQueue) putUrgent(add func()) {
	q.put(func() {
		add()
		q.urgent = true
	})
}

// startLocked sees to it that what waits is written. Of more than the kernel holds a
// socket would not take all at once, and large rows take long to encode: they would keep
// the flusher from other clients.
func (q *sendQueue) startLocked() {
	switch {
	case q.writing:
	case q.raw != nil && q.bytes <= kernelBuffer:
		q.writing = true
		q.flusher.add(q)
	default:
		q.writing = true
		q.session.handler.work.Go(func() { q.write(nil) })
	}
}

// flush writes what the socket takes at once of what waits, and leaves the rest to
// a writer, or more that waits to the next turn: other clients wait too.
func (q *sendQueue) flush(a *attempt) {
	frames := q.take(a.frames[:0])
	if len(frames) == 0 {
		return
	}
	rest, err := a.run(q.raw, frames)
	switch {
	case err != nil:
		q.fail()
	case len(rest) > 0:
		rest = slices.Clone(rest)
		q.session.handler.work.Go(func() { q.write(rest) })
	default:
		q.flushed()
	}
	clear(frames)
	a.frames = frames[:0]
}

// flushed ends a turn in which the socket took everything.
func (q *sendQueue) flushed() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.writing = false
	if q.waitsLocked() {
		q.startLocked()
	} else if q.ending { // nobody waits before
		q.change.Broadcast()
	}
}

// waitsLocked reports whether there is something that may be written now.
func (q *sendQueue) waitsLocked() bool {
	return q.urgent || q.updates.Len() > 0 && (q.held == 0 && !q.lapsed || q.ending)
}

// write writes first what the socket did not take at once, and then what waits,
// until there is nothing or the client cannot be written to.
func (q *sendQueue) write(frames net.Buffers) {
	for {
		if len(frames) == 0 {
			frames = q.take(nil)
		}
		if len(frames) == 0 {
			return
		}
		if err := q.writeAll(frames); err != nil {
			q.fail()
			return
		}
		frames = nil
	}
}

// fail gives up on a client that cannot be written to, and on what waits for it: else
// release would try again.
func (q *sendQueue) fail() {
	q.mu.Lock()
	q.forgetAllLocked()
	q.ending, q.writing, q.urgent = true, false, false
	q.mu.Unlock()
	q.change.Broadcast()
	q.session.closeNow()
}

// expireAt has no update written from a time of the wall clock on. A timer does not
// follow that clock when it is set.
func (q *sendQueue) expireAt(at time.Time) {
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
func (q *sendQueue) hasLapsedLocked() bool {
	if q.expires != 0 && !q.lapsed {
		q.lapsed = q.session.handler.wall().UnixMilli() >= q.expires
	}
	return q.lapsed
}

// take appends what is to be written next. Nothing means that writing ends.
func (q *sendQueue) take(batch net.Buffers) net.Buffers {
	q.mu.Lock()
	overflow, lapsed := q.overflow, q.lapsed
	q.overflow = false
	if q.urgent {
		batch = q.takeUrgentLocked(batch)
	}
	batch = q.takeUpdatesLocked(batch)
	if len(batch) == 0 && q.last != nil { // and no update waits
		batch, q.last, q.urgent = append(batch, q.last), nil, false
	}
	q.writing = len(batch) > 0
	lapsed = q.lapsed && !lapsed // just now
	q.mu.Unlock()
	if overflow {
		q.session.leave()
	}
	if lapsed {
		q.session.lapse()
	}
	if len(batch) == 0 {
		q.change.Broadcast()
	}
	return batch
}

// takeUrgentLocked appends what goes before the updates.
func (q *sendQueue) takeUrgentLocked(batch net.Buffers) net.Buffers {
	if q.pong != nil {
		batch, q.pong = append(batch, q.pong), nil
	}
	if q.ping {
		batch, q.ping = append(batch, pingFrame), false
	}
	if q.notice != nil {
		batch, q.notice = append(batch, q.notice), nil
	}
	if len(q.direct) > 0 {
		batch = append(batch, q.direct...)
		q.direct = nil
		q.change.Broadcast()
	}
	q.urgent = q.last != nil // which comes when nothing else waits
	return batch
}

func (q *sendQueue) takeUpdatesLocked(batch net.Buffers) net.Buffers {
	q.forgetHeldLocked()
	if q.held > 0 || q.updates.Len() > 0 && q.hasLapsedLocked() {
		return batch
	}
	for size := 0; len(batch) < maxBatch && size < maxBatchBytes; {
		slot, u, ok := q.updates.Pop()
		if !ok {
			break
		}
		if frames := q.encode(slot, u); len(frames) > 0 {
			batch = append(batch, frames)
			size += len(frames)
		}
	}
	return batch
}
