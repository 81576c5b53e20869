package web

import (
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/internal/conflate"
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

// outbox is what waits to be written to one client: the newest update of each
// key, in the order in which the keys first had one. It is the Sink of the
// session's client. A writer is alive only while something waits.
type outbox struct {
	conn    net.Conn
	session *session

	mu      sync.Mutex
	updates conflate.Queue[*bridge.Update]
	bytes   int // of the rows in updates
	direct  [][]byte
	notice  []byte // something the client should know soon
	pong    []byte // an answer to the client's newest ping
	ping    bool
	news    bridge.Slot // waits among the updates to say fresh; see Fresh
	fresh   bool
	told    bool      // what of fresh was said last
	held    int       // above zero no update is written
	last    []byte    // the close frame; nothing follows it
	ending  bool      // nothing more is taken
	endBy   time.Time // when the last of it must be written

	overflow bool // too much came together, and the session was not told yet
	writing  bool // a writer is alive
	room     sync.Cond
	writer   sync.WaitGroup
}

func newOutbox(conn net.Conn, s *session) *outbox {
	o := &outbox{conn: conn, session: s, fresh: true, told: true}
	o.room.L = &o.mu
	return o
}

// Push implements bridge.Sink.
func (o *outbox) Push(slot *bridge.Slot, u *bridge.Update) {
	o.put(func() {
		o.forget(slot)
		o.updates.Put(slot, u)
		if o.bytes += u.Bytes(); o.bytes > o.session.handler.config.MaxQueuedBytes {
			o.overflowLocked()
		}
	})
}

// forget no longer counts what waits in a slot.
func (o *outbox) forget(slot *bridge.Slot) {
	if u, waits := slot.Waiting(); waits {
		o.bytes -= u.Bytes()
	}
}

// overflowLocked gives up on a client that lets too much come together.
func (o *outbox) overflowLocked() {
	for {
		if _, _, ok := o.updates.Pop(); !ok {
			break
		}
	}
	o.bytes, o.direct = 0, nil
	o.last = closeFrame(CloseSlow, "too much is waiting to be read")
	o.ending, o.overflow = true, true
	o.endBy = time.Now().Add(o.session.handler.config.WriteTimeout)
	o.room.Broadcast()
}

// Drop implements bridge.Sink.
func (o *outbox) Drop(slot *bridge.Slot) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.forget(slot)
	return o.updates.Drop(slot)
}

// Fresh implements bridge.FreshnessSink. That the client is fresh again is said
// after the updates that make it so; what has changed back before it could be
// said is not said at all.
func (o *outbox) Fresh(fresh bool) {
	o.put(func() {
		o.fresh = fresh
		o.updates.Drop(&o.news)
		if o.fresh != o.told {
			o.updates.Put(&o.news, nil)
		}
	})
}

// encode returns the frames of what was in a slot.
func (o *outbox) encode(slot *bridge.Slot, u *bridge.Update) []byte {
	if slot == &o.news {
		o.told = o.fresh
		return o.session.codec.freshness(o.fresh)
	}
	o.bytes -= u.Bytes()
	return u.Encoded(o.session.codec)
}

// sendPing asks the client whether it is there, unless the session is ending.
func (o *outbox) sendPing() { o.put(func() { o.ping = true }) }

// sendPong answers a ping. Of several unanswered pings the newest is answered,
// as RFC 6455 section 5.5.3 allows, so a flood of them piles up nothing.
func (o *outbox) sendPong(frame []byte) { o.put(func() { o.pong = frame }) }

// hold keeps updates from being written until release, which must follow as often:
// so that the answer to a request comes before what the request brings, and the
// last row of an old secret before the first of the new one.
func (o *outbox) hold() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held++
}

func (o *outbox) release() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held--
	if o.held == 0 && !o.writing && o.updates.Len() > 0 {
		o.startLocked()
	}
}

// sendNotice sends a frame that a later one replaces.
func (o *outbox) sendNotice(frame []byte) { o.put(func() { o.notice = frame }) }

// sendDirect queues a frame that nothing replaces, and waits while too many are
// queued already. It returns true when the frame is queued, false when the session
// is ending.
func (o *outbox) sendDirect(frame []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.direct) >= maxDirect && !o.ending {
		o.room.Wait()
	}
	if o.ending {
		return false
	}
	o.putLocked(func() { o.direct = append(o.direct, frame) })
	return true
}

// end takes nothing more, and writes frame, if there is one, after what waits
// already. Only the first call counts.
func (o *outbox) end(frame []byte) {
	o.put(func() {
		o.last, o.ending = frame, true
		o.endBy = time.Now().Add(o.session.handler.config.WriteTimeout)
	})
	o.room.Broadcast()
}

// wait returns when the writer has ended, once end was called.
func (o *outbox) wait() { o.writer.Wait() }

func (o *outbox) put(add func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.putLocked(add)
}

func (o *outbox) putLocked(add func()) {
	if o.ending {
		return
	}
	add()
	if !o.writing {
		o.startLocked()
	}
}

func (o *outbox) startLocked() {
	o.writing = true
	o.writer.Go(o.write)
}

// write writes until nothing waits or the client cannot be written to.
func (o *outbox) write() {
	for {
		batch, overflow := o.next()
		if overflow {
			o.session.leave()
		}
		if batch == nil {
			return
		}
		if err := o.writeAll(batch); err != nil {
			o.mu.Lock()
			o.ending, o.writing = true, false
			o.mu.Unlock()
			o.room.Broadcast()
			o.session.hangUp()
			return
		}
	}
}

// next takes what is to be written next; nothing means that the writer ends. It
// says once that the outbox has overflowed.
func (o *outbox) next() (batch net.Buffers, overflow bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	overflow, o.overflow = o.overflow, false
	if o.pong != nil {
		batch, o.pong = append(batch, o.pong), nil
	}
	if o.ping {
		batch, o.ping = append(batch, pingFrame), false
	}
	if o.notice != nil {
		batch, o.notice = append(batch, o.notice), nil
	}
	if len(o.direct) > 0 {
		batch = append(batch, o.direct...)
		o.direct = nil
		o.room.Broadcast()
	}
	for size := 0; len(batch) < maxBatch && size < maxBatchBytes && (o.held == 0 || o.ending); {
		slot, u, ok := o.updates.Pop()
		if !ok {
			break
		}
		if frames := o.encode(slot, u); len(frames) > 0 {
			batch = append(batch, frames)
			size += len(frames)
		}
	}
	if len(batch) == 0 && o.last != nil { // and no update waits
		batch, o.last = append(batch, o.last), nil
	}
	o.writing = len(batch) > 0
	return batch, overflow
}

// writeAll writes the frames. The write timeout is for the client to read
// anything at all: one that is slow and makes progress is not cut off.
func (o *outbox) writeAll(frames net.Buffers) error {
	if _, plain := o.conn.(*net.TCPConn); !plain {
		return o.writePieces(frames)
	}
	// A write that was cut short may have got on at its beginning only. So the
	// time is cut into parts, and is over when so many have passed without a byte.
	for idle := 0; ; {
		n, err := o.timed(o.session.handler.config.WriteTimeout/timeoutParts, func() (int64, error) { return frames.WriteTo(o.conn) })
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if idle++; n > 0 {
			idle = 0
		}
		if idle == timeoutParts || o.isOver() {
			return err
		}
	}
}

const timeoutParts = 4

// lastMoment is when everything must be written, zero while the session goes on.
func (o *outbox) lastMoment() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.endBy
}

// isOver reports whether the time for the last writes is over, however well they
// get on.
func (o *outbox) isOver() bool {
	end := o.lastMoment()
	return !end.IsZero() && !time.Now().Before(end)
}

// pieceBytes is what one TLS record holds.
const pieceBytes = 16 << 10

// writePieces is writeAll for a connection that cannot be written to any more
// once a deadline has passed, as those of crypto/tls: each piece has a deadline
// of its own.
func (o *outbox) writePieces(frames net.Buffers) error {
	for _, frame := range frames {
		for piece := range slices.Chunk(frame, pieceBytes) {
			_, err := o.timed(o.session.handler.config.WriteTimeout, func() (int64, error) { n, err := o.conn.Write(piece); return int64(n), err })
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// blocked is how long a write takes that had to wait for the client to read.
const blocked = 100 * time.Millisecond

// timed gives a write some time. One that had to wait and got on shows that the
// client is there, though its pongs are late: they come after what it reads.
func (o *outbox) timed(limit time.Duration, write func() (int64, error)) (n int64, err error) {
	begin := time.Now()
	deadline := begin.Add(limit)
	if end := o.lastMoment(); !end.IsZero() && end.Before(deadline) {
		deadline = end
	}
	if err := o.conn.SetWriteDeadline(deadline); err != nil {
		return 0, err
	}
	n, err = write()
	if n > 0 && time.Since(begin) > blocked {
		err = errors.Join(err, o.session.heard())
	}
	return n, err
}
