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
	// Timeout is how long the client may read nothing at all. A slow client that makes
	// progress is not cut off.
	Timeout time.Duration

	// EndBy returns when everything must be written, even if the client makes progress; zero
	// means no such time.
	EndBy func() time.Time

	// Progress is called when the client has read something after the Write had to wait for
	// it. Such a client's pongs are late, because it reads the ping only after all that. An
	// error ends the Write.
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
	// A write that reaches its deadline may have written something only at its beginning. So
	// the timeout is cut into parts, and is over after that many parts without a byte.
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

// pieceBytes is the size of one TLS record.
const pieceBytes = 16 << 10

// writePieces is Write for connections that cannot be written to any more once a deadline has
// passed, such as those of crypto/tls. Each piece has a deadline of its own.
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

// blocked is how long a write takes at least that had to wait for the client to read.
const blocked = 100 * time.Millisecond

// timed runs a write with a deadline.
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
