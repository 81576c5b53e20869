package socket

import "net"

// Scratch is room for writing what a socket takes at once. It is used over and over, by
// one goroutine, so that writing to one more client allocates nothing.
type Scratch struct {
	Frames net.Buffers // for what is to be written next

	copied []byte // room for several small frames
	write  func(fd uintptr)

	// Of the system call that is being made.
	chunk []byte
	n     int
	err   error
}

// copiedBytes is up to what size frames are copied together, to be written in one
// system call. What is larger is written frame by frame.
const copiedBytes = 16 << 10

// NewScratch returns room for writing.
func NewScratch() *Scratch {
	s := new(Scratch)
	s.write = func(fd uintptr) { s.n, s.err = writeNow(fd, s.chunk) }
	return s
}

// TryWrite writes what the socket takes at once of some frames, and returns the rest. It
// goes past the connection's own Write, and RawConn's, which mind a deadline that is over
// and wait for whoever is writing already. The socket must be Immediate.
func (s *Socket) TryWrite(room *Scratch, frames net.Buffers) (rest net.Buffers, err error) {
	defer func() { room.chunk = nil }() // which may be large
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

// join returns the frames in one piece if they are small, else the first of them.
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
