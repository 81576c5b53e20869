package socket

import "net"

// Scratch is memory for TryWrite. One goroutine uses it over and over, so that writing to one
// more client allocates nothing.
type Scratch struct {
	Frames net.Buffers // for the frames to be written next

	copied []byte // room for several small frames
	write  func(fd uintptr)

	// The arguments and results of the present system call.
	chunk []byte
	n     int
	err   error
}

// copiedBytes is the size up to which frames are copied together and written in one system
// call. Larger ones are written frame by frame.
const copiedBytes = 16 << 10

// NewScratch returns a Scratch.
func NewScratch() *Scratch {
	s := new(Scratch)
	s.write = func(fd uintptr) { s.n, s.err = writeNow(fd, s.chunk) }
	return s
}

// TryWrite writes as much of the frames as the socket takes at once, and returns the rest. It
// does not use the Write of the connection or of RawConn: these fail after a deadline, and
// wait for other writers. The socket must be Immediate.
func (s *Socket) TryWrite(room *Scratch, frames net.Buffers) (rest net.Buffers, err error) {
	defer func() { room.chunk = nil }() // the chunk may be large
	for len(frames) > 0 {
		room.chunk = room.join(frames)
		if err := s.raw.Control(room.write); err != nil {
			return nil, err
		}
		if room.err != nil {
			return nil, room.err
		}
		frames = without(frames, room.n)
		if room.n < len(room.chunk) {
			break
		}
	}
	return frames, nil
}

// join returns the frames in one piece if they are small, otherwise the first of them.
func (s *Scratch) join(frames net.Buffers) []byte {
	size := 0
	for _, frame := range frames {
		size += len(frame)
	}
	if len(frames) == 1 || size > copiedBytes {
		return frames[0]
	}
	s.copied = s.copied[:0]
	for _, frame := range frames {
		s.copied = append(s.copied, frame...)
	}
	return s.copied
}

// without removes n bytes from the beginning.
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
