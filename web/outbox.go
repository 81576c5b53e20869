package web

import (
	"errors"
	"net"
	"os"
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

// outbox is what waits to be written to one client: the newest update of each
// key, in the order in which the keys first had one. It is the Sink of the
// session's client. While something waits, either the handler's flusher sees to it
// or a writer of the outbox's own is alive.
type outbox struct {
	// What a row that is written touches comes first, close together: of thousands
	// of clients little of it is in the processor's caches.
	mu      sync.Mutex
	updates conflate.Queue[*bridge.Update]
	bytes   int             // of the rows in updates
	next    *outbox         // in the flusher
	raw     syscall.RawConn // to write what it takes at once; nil where that cannot be
	encoder *encoder
	flusher *flusher
	held    int   // above zero no update is written
	lapsed  bool  // the secret has expired: none is, either
	expires int64 // when it does, by the wall clock, see expireAt; zero for never
	writing bool  // the flusher or a writer sees to what waits
	urgent  bool  // something besides updates waits
	ending  bool  // nothing more is taken

	overflow bool // too much came together, and the session was not told yet
	fresh    bool
	told     bool // what of fresh was said last
	ping     bool
	pong     []byte // an answer to the client's newest ping
	notice   []byte // something the client should know soon
	direct   [][]byte
	last     []byte      // the close frame; nothing follows it
	endBy    time.Time   // when the last of it must be written
	news     bridge.Slot // waits among the updates to say fresh; see Fresh
	change   sync.Cond   // there is more room, or writing has ended

	conn    net.Conn
	session *session
}

func newOutbox(conn net.Conn, s *session) *outbox {
	o := &outbox{conn: conn, session: s, encoder: s.encoder, flusher: s.handler.flusher, fresh: true, told: true}
	o.change.L = &o.mu
	if tcp, ok := conn.(*net.TCPConn); ok { // TLS has to make its records first
		o.raw, _ = tcp.SyscallConn()
	}
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

// forgetAllLocked drops all updates.
func (o *outbox) forgetAllLocked() {
	for {
		if _, _, ok := o.updates.Pop(); !ok {
			o.bytes = 0
			return
		}
	}
}

// forgetHeldLocked drops the updates of a session that ends while they are held: they may
// be of a secret that is just being changed, or has expired, and what they answer is not
// acknowledged any more.
func (o *outbox) forgetHeldLocked() {
	if (o.held > 0 || o.lapsed) && o.ending {
		o.forgetAllLocked()
	}
}

// overflowLocked gives up on a client that lets too much come together.
func (o *outbox) overflowLocked() {
	o.forgetAllLocked()
	o.direct = nil
	o.last = closeFrame(wire.CloseSlow, "too much is waiting to be read")
	o.ending, o.overflow, o.urgent = true, true, true
	o.endBy = time.Now().Add(o.session.handler.config.WriteTimeout)
	o.change.Broadcast()
}

// overflowed reports whether the client was given up because too much came together.
func (o *outbox) overflowed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.overflow
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
		return o.encoder.freshness(o.fresh)
	}
	o.bytes -= u.Bytes()
	return u.Encoded(o.encoder)
}

// sendPing asks the client whether it is there, unless the session is ending.
func (o *outbox) sendPing() { o.putUrgent(func() { o.ping = true }) }

// sendPong answers a ping. Of several unanswered pings the newest is answered,
// as RFC 6455 section 5.5.3 allows, so a flood of them piles up nothing.
func (o *outbox) sendPong(frame []byte) { o.putUrgent(func() { o.pong = frame }) }

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
	if o.waitsLocked() {
		o.startLocked()
	}
}

// sendNotice sends a frame that a later one replaces.
func (o *outbox) sendNotice(frame []byte) { o.putUrgent(func() { o.notice = frame }) }

// sendDirect queues a frame that nothing replaces, and waits while too many are
// queued already. It returns true when the frame is queued, false when the session
// is ending.
func (o *outbox) sendDirect(frame []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.direct) >= maxDirect && !o.ending {
		o.change.Wait()
	}
	if o.ending {
		return false
	}
	o.direct = append(o.direct, frame)
	o.urgent = true
	o.startLocked()
	return true
}

// end takes nothing more, and writes frame, if there is one, after what waits
// already and is not held. Only the first call counts.
func (o *outbox) end(frame []byte) {
	o.putUrgent(func() {
		o.last, o.ending = frame, true
		o.forgetHeldLocked()
		o.endBy = time.Now().Add(o.session.handler.config.WriteTimeout)
	})
	o.change.Broadcast()
}

// wait returns when nothing is written any more, once end was called.
func (o *outbox) wait() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.writing {
		o.change.Wait()
	}
}

// put adds an update, or what goes among them.
func (o *outbox) put(add func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.ending {
		add()
		o.startLocked()
	}
}

// putUrgent adds what goes before the updates.
func (o *outbox) putUrgent(add func()) {
	o.put(func() {
		add()
		o.urgent = true
	})
}

// startLocked sees to it that what waits is written. Of more than the kernel holds a
// socket would not take all at once, and large rows take long to encode: they would keep
// the flusher from other clients.
func (o *outbox) startLocked() {
	switch {
	case o.writing:
	case o.raw != nil && o.bytes <= kernelBuffer:
		o.writing = true
		o.flusher.add(o)
	default:
		o.writing = true
		o.session.handler.work.Go(func() { o.write(nil) })
	}
}

// flush writes what the socket takes at once of what waits, and leaves the rest to
// a writer, or more that waits to the next turn: other clients wait too.
func (o *outbox) flush(a *attempt) {
	frames := o.take(a.frames[:0])
	if len(frames) == 0 {
		return
	}
	rest, err := a.run(o.raw, frames)
	switch {
	case err != nil:
		o.fail()
	case len(rest) > 0:
		rest = slices.Clone(rest)
		o.session.handler.work.Go(func() { o.write(rest) })
	default:
		o.flushed()
	}
	clear(frames)
	a.frames = frames[:0]
}

// flushed ends a turn in which the socket took everything.
func (o *outbox) flushed() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writing = false
	if o.waitsLocked() {
		o.startLocked()
	} else if o.ending { // nobody waits before
		o.change.Broadcast()
	}
}

// waitsLocked reports whether there is something that may be written now.
func (o *outbox) waitsLocked() bool {
	return o.urgent || o.updates.Len() > 0 && (o.held == 0 && !o.lapsed || o.ending)
}

// write writes first what the socket did not take at once, and then what waits,
// until there is nothing or the client cannot be written to.
func (o *outbox) write(frames net.Buffers) {
	for {
		if len(frames) == 0 {
			frames = o.take(nil)
		}
		if len(frames) == 0 {
			return
		}
		if err := o.writeAll(frames); err != nil {
			o.fail()
			return
		}
		frames = nil
	}
}

// fail gives up on a client that cannot be written to, and on what waits for it: else
// release would try again.
func (o *outbox) fail() {
	o.mu.Lock()
	o.forgetAllLocked()
	o.ending, o.writing, o.urgent = true, false, false
	o.mu.Unlock()
	o.change.Broadcast()
	o.session.hangUp()
}

// expireAt has no update written from a time of the wall clock on. A timer does not
// follow that clock when it is set.
func (o *outbox) expireAt(at time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.expires, o.lapsed = 0, false
	if !at.IsZero() {
		o.expires = at.UnixMilli() + 1 // no earlier than it does
	}
	if o.waitsLocked() {
		o.startLocked()
	}
}

// hasLapsedLocked looks at the clock. What is written to one client at once costs one
// look, and nothing where the secret does not expire.
func (o *outbox) hasLapsedLocked() bool {
	if o.expires != 0 && !o.lapsed {
		o.lapsed = o.session.handler.wall().UnixMilli() >= o.expires
	}
	return o.lapsed
}

// take appends what is to be written next. Nothing means that writing ends.
func (o *outbox) take(batch net.Buffers) net.Buffers {
	o.mu.Lock()
	overflow, lapsed := o.overflow, o.lapsed
	o.overflow = false
	if o.urgent {
		batch = o.takeUrgentLocked(batch)
	}
	batch = o.takeUpdatesLocked(batch)
	if len(batch) == 0 && o.last != nil { // and no update waits
		batch, o.last, o.urgent = append(batch, o.last), nil, false
	}
	o.writing = len(batch) > 0
	lapsed = o.lapsed && !lapsed // just now
	o.mu.Unlock()
	if overflow {
		o.session.leave()
	}
	if lapsed {
		o.session.lapse()
	}
	if len(batch) == 0 {
		o.change.Broadcast()
	}
	return batch
}

// takeUrgentLocked appends what goes before the updates.
func (o *outbox) takeUrgentLocked(batch net.Buffers) net.Buffers {
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
		o.change.Broadcast()
	}
	o.urgent = o.last != nil // which comes when nothing else waits
	return batch
}

func (o *outbox) takeUpdatesLocked(batch net.Buffers) net.Buffers {
	o.forgetHeldLocked()
	if o.held > 0 || o.updates.Len() > 0 && o.hasLapsedLocked() {
		return batch
	}
	for size := 0; len(batch) < maxBatch && size < maxBatchBytes; {
		slot, u, ok := o.updates.Pop()
		if !ok {
			break
		}
		if frames := o.encode(slot, u); len(frames) > 0 {
			batch = append(batch, frames)
			size += len(frames)
		}
	}
	return batch
}

// writeAll writes the frames. The write timeout is for the client to read
// anything at all: one that is slow and makes progress is not cut off, see progress.
func (o *outbox) writeAll(frames net.Buffers) error {
	if _, plain := o.conn.(*net.TCPConn); !plain {
		return o.writePieces(frames)
	}
	// A write that was cut short may have got on at its beginning only. So the
	// time is cut into parts, and is over when so many have passed without a byte.
	last := o.progress()
	for idle := 0; ; {
		n, err := o.timed(o.session.handler.config.WriteTimeout/timeoutParts, func() (int64, error) { return frames.WriteTo(o.conn) })
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		now := o.progress()
		if idle++; n > 0 || now.since(last) {
			idle = 0
			if err := o.session.heard(); err != nil {
				return err
			}
		}
		last = now
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

func (o *outbox) noLaterThanEnd(t time.Time) time.Time {
	if end := o.lastMoment(); !end.IsZero() && end.Before(t) {
		return end
	}
	return t
}

// pieceBytes is what one TLS record holds.
const pieceBytes = 16 << 10

// writePieces is writeAll for a connection that cannot be written to any more
// once a deadline has passed, as those of crypto/tls: each piece has a deadline
// of its own.
func (o *outbox) writePieces(frames net.Buffers) error {
	defer o.extended(o.session.handler.config.WriteTimeout)()
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
	if err := o.conn.SetWriteDeadline(o.noLaterThanEnd(begin.Add(limit))); err != nil {
		return 0, err
	}
	n, err = write()
	if n > 0 && time.Since(begin) > blocked {
		err = errors.Join(err, o.session.heard())
	}
	return n, err
}
