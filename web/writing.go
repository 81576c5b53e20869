package web

import (
	"errors"
	"net"
	"os"
	"slices"
	"time"
)

// writeAll writes the frames. The write timeout is for the client to read
// anything at all: one that is slow and makes progress is not cut off, see progress.
func (q *sendQueue) writeAll(frames net.Buffers) error {
	if _, plain := q.conn.(*net.TCPConn); !plain {
		return q.writePieces(frames)
	}
	// A write that was cut short may have got on at its beginning only. So the
	// time is cut into parts, and is over when so many have passed without a byte.
	last := q.progress()
	for idle := 0; ; {
		n, err := q.timed(q.session.handler.config.WriteTimeout/timeoutParts, func() (int64, error) { return frames.WriteTo(q.conn) })
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		now := q.progress()
		if idle++; n > 0 || now.since(last) {
			idle = 0
			if err := q.session.extendDeadline(); err != nil {
				return err
			}
		}
		last = now
		if idle == timeoutParts || q.isOver() {
			return err
		}
	}
}

const timeoutParts = 4

// lastMoment is when everything must be written, zero while the session goes on.
func (q *sendQueue) lastMoment() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.endBy
}

// isOver reports whether the time for the last writes is over, however well they
// get on.
func (q *sendQueue) isOver() bool {
	end := q.lastMoment()
	return !end.IsZero() && !time.Now().Before(end)
}

func (q *sendQueue) noLaterThanEnd(t time.Time) time.Time {
	if end := q.lastMoment(); !end.IsZero() && end.Before(t) {
		return end
	}
	return t
}

// pieceBytes is what one TLS record holds.
const pieceBytes = 16 << 10

// writePieces is writeAll for a connection that cannot be written to any more
// once a deadline has passed, as those of crypto/tls: each piece has a deadline
// of its own.
func (q *sendQueue) writePieces(frames net.Buffers) error {
	defer q.extended(q.session.handler.config.WriteTimeout)()
	for _, frame := range frames {
		for piece := range slices.Chunk(frame, pieceBytes) {
			_, err := q.timed(q.session.handler.config.WriteTimeout, func() (int64, error) { n, err := q.conn.Write(piece); return int64(n), err })
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
func (q *sendQueue) timed(limit time.Duration, write func() (int64, error)) (n int64, err error) {
	begin := time.Now()
	if err := q.conn.SetWriteDeadline(q.noLaterThanEnd(begin.Add(limit))); err != nil {
		return 0, err
	}
	n, err = write()
	if n > 0 && time.Since(begin) > blocked {
		err = errors.Join(err, q.session.extendDeadline())
	}
	return n, err
}
