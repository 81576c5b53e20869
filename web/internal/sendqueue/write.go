package sendqueue

import (
	"net"
	"slices"
	"time"

	"github.com/entity-sync/entity-sync/web/internal/socket"
)

const (
	// maxBatch and maxBatchBytes bound how much is written at once: so much that the cost of
	// the system call does not matter, so little that newer updates still replace waiting
	// ones.
	maxBatch      = 64
	maxBatchBytes = 256 << 10
)

// startLocked starts writing, unless it goes on already. If more waits than the kernel holds,
// a writer of the client's own does it: the socket would not take all at once, and large rows
// take long to encode, which would keep the flusher from other clients.
func (q *Queue[U]) startLocked() {
	switch {
	case q.writing:
	case q.immediate && q.bytes <= socket.KernelBuffer:
		q.writing = true
		q.group.flusher.add(q)
	default:
		q.writing = true
		q.group.config.Go(func() { q.write(nil) })
	}
}

// flush writes one batch, as much as the socket takes at once. A writer writes the rest of the
// batch. Further batches have to wait for the queue's next turn, because other clients wait
// too.
func (q *Queue[U]) flush(room *socket.Scratch) {
	frames := q.take(room.Frames[:0])
	if len(frames) == 0 {
		return
	}
	rest, err := q.transport.TryWrite(room, frames)
	switch {
	case err != nil:
		q.fail()
	case len(rest) > 0:
		rest = slices.Clone(rest)
		q.group.config.Go(func() { q.write(rest) })
	default:
		q.flushed()
	}
	clear(frames)
	room.Frames = frames[:0]
}

// flushed ends a turn in which the socket took everything.
func (q *Queue[U]) flushed() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.writing = false
	if q.waitsLocked() {
		q.startLocked()
	} else if q.ending { // no goroutine waits before that
		q.changedLocked()
	}
}

// waitsLocked reports whether there is something that may be written now.
func (q *Queue[U]) waitsLocked() bool {
	return q.urgent || (q.updates.Len() > 0 || q.eventsWaitLocked()) && (q.held == 0 && !q.lapsed || q.ending)
}

// write writes the given frames first, which the socket did not take at once. Then it writes
// what waits, until nothing does or writing fails.
func (q *Queue[U]) write(frames net.Buffers) {
	for {
		if len(frames) == 0 {
			frames = q.take(nil)
		}
		if len(frames) == 0 {
			return
		}
		if err := q.transport.Write(frames, q.lastMoment); err != nil {
			q.fail()
			return
		}
		frames = nil
	}
}

// fail gives up a client that cannot be written to. It drops what waits, or else Release would
// try to write again.
func (q *Queue[U]) fail() {
	q.mu.Lock()
	q.forgetAllLocked()
	q.rest = nil
	q.ending, q.writing, q.urgent = true, false, false
	q.changedLocked()
	q.mu.Unlock()
	q.owner.Failed()
}

// lastMoment returns when all must have been written, zero before the Queue ends.
func (q *Queue[U]) lastMoment() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.rest == nil {
		return time.Time{}
	}
	return q.rest.endBy
}

// take appends the frames to write next. If there are none, writing ends.
func (q *Queue[U]) take(batch net.Buffers) net.Buffers {
	q.mu.Lock()
	overflowed, lapsed := q.overflow == newOverflow, q.lapsed
	if overflowed {
		q.overflow = toldOverflow
	}
	if q.urgent {
		batch = q.takeUrgentLocked(batch)
	}
	batch = q.takeUpdatesLocked(batch)
	if r := q.rest; len(batch) == 0 && r != nil && r.last != nil { // nothing else waits
		batch, r.last, q.urgent = append(batch, r.last), nil, false
	}
	if q.writing = len(batch) > 0; !q.writing {
		q.changedLocked()
	}
	lapsed = q.lapsed && !lapsed // it lapsed just now
	q.mu.Unlock()
	if overflowed {
		q.owner.Overflowed()
	}
	if lapsed {
		q.owner.Expired()
	}
	return batch
}

// takeUrgentLocked appends the frames that are written before the updates.
func (q *Queue[U]) takeUrgentLocked(batch net.Buffers) net.Buffers {
	r := q.rest
	if r != nil && r.pong != nil {
		batch, r.pong = append(batch, r.pong), nil
	}
	if q.ping {
		batch, q.ping = append(batch, q.transport.Ping()), false
	}
	if r == nil {
		q.urgent = false
		return batch
	}
	if r.notice != nil {
		batch, r.notice = append(batch, r.notice), nil
	}
	if len(r.ordered.frames) > 0 {
		batch = r.ordered.take(batch)
		q.changedLocked()
	}
	q.urgent = len(r.ordered.frames) > 0 || r.last != nil // r.last is written once nothing else waits
	q.dropRestLocked()
	return batch
}

// dropRestLocked frees the rest if nothing waits in it: most clients have none.
func (q *Queue[U]) dropRestLocked() {
	if !q.urgent && !q.ending && !q.eventsWaitLocked() {
		q.rest = nil
	}
}

func (q *Queue[U]) takeUpdatesLocked(batch net.Buffers) net.Buffers {
	q.forgetHeldLocked()
	waits := q.updates.Len() > 0 || q.eventsWaitLocked()
	if q.held > 0 || q.rest != nil && q.rest.ordered.replies > 0 || waits && q.hasLapsedLocked() {
		return batch
	}
	batch = q.takeEventsLocked(batch)
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
