package socket

import (
	"errors"
	"net"
	"os"
	"slices"
	"time"
)

// Limits say how long a Write may take.
type Limits struct {
	// Timeout is how long the client may read nothing at all. One that is slow and
	// makes progress is not cut off.
	Timeout time.Duration

	// EndBy returns when everything must be written, however well it gets on; zero
	// while there is no such time.
	EndBy func() time.Time

	// Progress is told that the client has read something after it had to be waited
	// for. The pongs of such a client are late: they come after what it reads. An error
	// ends the Write.
	Progress func() error
}

func (l *Limits) isOver() bool {
	end := l.EndBy()
	return !end.IsZero() && !time.Now().Before(end)
}

func (l *Limits) noLaterThanEnd(t time.Time) time.Time {
	if end := l.EndBy(); !end.IsZero() && end.Before(t) {
		return end
	}
	return t
}

const timeoutParts = 4

// Write writes the frames.
func (s *Socket) Write(frames net.Buffers, l Limits) error {
	if _, plain := s.Conn.(*net.TCPConn); !plain {
		return s.writePieces(frames, l)
	}
	// A write that was cut short may have got on at its beginning only. So the
	// time is cut into parts, and is over when so many have passed without a byte.
	last := s.Progress()
	for idle := 0; ; {
		n, err := s.timed(l.Timeout/timeoutParts, l, func() (int64, error) { return frames.WriteTo(s.Conn) })
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		now := s.Progress()
		if idle++; n > 0 || now.Since(last) {
			idle = 0
			if err := l.Progress(); err != nil {
				return err
			}
		}
		last = now
		if idle == timeoutParts || l.isOver() {
			return err
		}
	}
}

// pieceBytes is what one TLS record holds.
const pieceBytes = 16 << 10

// writePieces is Write for a connection that cannot be written to any more once a
// deadline has passed, as those of crypto/tls: each piece has a deadline of its own.
func (s *Socket) writePieces(frames net.Buffers, l Limits) error {
	defer s.extended(l)()
	for _, frame := range frames {
		for piece := range slices.Chunk(frame, pieceBytes) {
			_, err := s.timed(l.Timeout, l, func() (int64, error) { n, err := s.Conn.Write(piece); return int64(n), err })
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// blocked is how long a write takes that had to wait for the client to read.
const blocked = 100 * time.Millisecond

// timed gives a write some time.
func (s *Socket) timed(limit time.Duration, l Limits, write func() (int64, error)) (n int64, err error) {
	begin := time.Now()
	if err := s.SetWriteDeadline(l.noLaterThanEnd(begin.Add(limit))); err != nil {
		return 0, err
	}
	n, err = write()
	if n > 0 && time.Since(begin) > blocked {
		err = errors.Join(err, l.Progress())
	}
	return n, err
}
