package web

import (
	"net"
	"syscall"
)

// attempt writes what a socket takes at once. It is used over and over, so that
// writing to one more client allocates nothing.
type attempt struct {
	frames net.Buffers // room for what is to be written
	copied []byte      // room for several small ones
	write  func(fd uintptr)

	// Of the system call that is being made.
	chunk []byte
	n     int
	err   error
}

// copiedBytes is up to what size frames are copied together, to be written in one
// system call. What is larger is written frame by frame.
const copiedBytes = 16 << 10

func newAttempt() *attempt {
	a := new(attempt)
	a.write = func(fd uintptr) { a.n, a.err = writeNow(fd, a.chunk) }
	return a
}

// run writes the frames, and returns those that the socket did not take. It goes past
// the connection's own Write, and RawConn's, which mind a deadline that is over and wait
// for whoever is writing already.
func (a *attempt) run(conn syscall.RawConn, frames net.Buffers) (rest net.Buffers, err error) {
	defer func() { a.chunk = nil }() // which may be large
	for len(frames) > 0 {
		a.chunk = a.join(frames)
		if err := conn.Control(a.write); err != nil {
			return nil, err
		}
		if a.err != nil {
			return nil, a.err
		}
		frames = without(frames, a.n)
		if a.n < len(a.chunk) {
			break
		}
	}
	return frames, nil
}

// join returns the frames in one piece if they are small, else the first of them.
func (a *attempt) join(frames net.Buffers) []byte {
	size := 0
	for _, frame := range frames {
		size += len(frame)
	}
	if len(frames) == 1 || size > copiedBytes {
		return frames[0]
	}
	a.copied = a.copied[:0]
	for _, frame := range frames {
		a.copied = append(a.copied, frame...)
	}
	return a.copied
}

// without takes n bytes away from the beginning.
func without(frames net.Buffers, n int) net.Buffers {
	for len(frames) > 0 && n >= len(frames[0]) {
		n -= len(frames[0])
		frames = frames[1:]
	}
	if n > 0 {
		frames[0] = frames[0][n:]
	}
	return frames
}
