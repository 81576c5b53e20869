package web

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/internal/conflate"
)

const (
	// maxBatch bounds what is written at once: enough updates that the system
	// call no longer matters, few enough that newer ones still replace the rest.
	maxBatch = 64

	// maxDirect bounds the frames that wait in order, without a key to conflate
	// by: rows that come through the classic function interface. Beyond it their
	// sender waits.
	maxDirect = 64
)

// outbox is what waits to be written to one client: the newest update of each
// key, in the order in which the keys first had one. It is the Sink of the
// session's client. A writer is alive only while something waits.
type outbox struct {
	conn    net.Conn
	timeout time.Duration
	encoder bridge.Encoder
	failed  func() // called once, when the client cannot be written to

	mu      sync.Mutex
	updates conflate.Queue[*bridge.Update]
	direct  [][]byte
	pong    []byte // an answer to the client's newest ping
	ping    bool
	last    []byte // the close frame; nothing follows it
	ending  bool   // nothing more is taken
	writing bool   // a writer is alive
	room    sync.Cond
	writer  sync.WaitGroup
}

func newOutbox(conn net.Conn, timeout time.Duration, encoder bridge.Encoder, failed func()) *outbox {
	o := &outbox{conn: conn, timeout: timeout, encoder: encoder, failed: failed}
	o.room.L = &o.mu
	return o
}

// Push implements bridge.Sink.
func (o *outbox) Push(slot *bridge.Slot, u *bridge.Update) {
	o.put(func() { o.updates.Put(slot, u) })
}

// Drop implements bridge.Sink.
func (o *outbox) Drop(slot *bridge.Slot) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.updates.Drop(slot)
}

// sendPing asks the client whether it is there, unless the session is ending.
func (o *outbox) sendPing() (sent bool) {
	o.put(func() { o.ping, sent = true, true })
	return sent
}

// sendPong answers a ping. Of several unanswered pings the newest is answered,
// as RFC 6455 section 5.5.3 allows, so a flood of them piles up nothing.
func (o *outbox) sendPong(frame []byte) { o.put(func() { o.pong = frame }) }

// sendDirect queues a frame that nothing replaces, and waits while too many are
// queued already. It returns when the frame is queued or the session is ending.
func (o *outbox) sendDirect(frame []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.direct) >= maxDirect && !o.ending {
		o.room.Wait()
	}
	o.putLocked(func() { o.direct = append(o.direct, frame) })
}

// end takes nothing more, and writes frame, if there is one, after what waits
// already. Only the first call counts.
func (o *outbox) end(frame []byte) {
	o.put(func() { o.last, o.ending = frame, true })
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
		o.writing = true
		o.writer.Go(o.write)
	}
}

// write writes until nothing waits or the client cannot be written to.
func (o *outbox) write() {
	for {
		batch := o.next()
		if batch == nil {
			return
		}
		if err := writeAll(o.conn, batch, o.timeout); err != nil {
			o.mu.Lock()
			o.ending, o.writing = true, false
			o.mu.Unlock()
			o.room.Broadcast()
			o.failed()
			return
		}
	}
}

// next takes what is to be written next; nothing means that the writer ends.
func (o *outbox) next() (batch net.Buffers) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.pong != nil {
		batch, o.pong = append(batch, o.pong), nil
	}
	if o.ping {
		batch, o.ping = append(batch, pingFrame), false
	}
	if len(o.direct) > 0 {
		batch = append(batch, o.direct...)
		o.direct = nil
		o.room.Broadcast()
	}
	for len(batch) < maxBatch {
		u, ok := o.updates.Pop()
		if !ok {
			break
		}
		if frames := u.Encoded(o.encoder); len(frames) > 0 {
			batch = append(batch, frames)
		}
	}
	if len(batch) == 0 && o.last != nil {
		batch, o.last = append(batch, o.last), nil
	}
	o.writing = len(batch) > 0
	return batch
}

// writeAll writes the frames. timeout is for the client to read anything at
// all: a slow client that makes progress is not cut off.
func writeAll(conn net.Conn, frames net.Buffers, timeout time.Duration) error {
	for {
		if err := conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
			return err
		}
		n, err := frames.WriteTo(conn)
		if n > 0 && errors.Is(err, os.ErrDeadlineExceeded) && len(frames) > 0 {
			continue
		}
		return err
	}
}
