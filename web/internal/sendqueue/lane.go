package sendqueue

import "net"

const (
	// MaxOrdered and MaxOrderedBytes bound the frames in the lane in order. Beyond them a
	// sender waits.
	MaxOrdered      = 256
	MaxOrderedBytes = 1 << 20

	// maxOrderedAtOnce bounds how many frames of the lane are written before updates have
	// their turn.
	maxOrderedAtOnce = maxBatch / 2
)

// lane holds frames that are sent in order. None replaces another.
type lane struct {
	frames  [][]byte
	bytes   int
	replies int // how many frames there are up to the last reply
}

// hasRoom reports whether a frame may be added: fewer than most others wait, and few enough
// bytes. A frame of any size may be added to an empty lane.
func (l *lane) hasRoom(frame []byte, most int) bool {
	return len(l.frames) == 0 || len(l.frames) < most && l.bytes+len(frame) <= MaxOrderedBytes
}

func (l *lane) add(frame []byte, reply bool) {
	l.frames = append(l.frames, frame)
	l.bytes += len(frame)
	if reply {
		l.replies = len(l.frames)
	}
}

// take appends the frames that are to be written next.
func (l *lane) take(batch net.Buffers) net.Buffers {
	n, size := 0, 0
	for n < min(len(l.frames), maxOrderedAtOnce) && size < maxBatchBytes {
		size += len(l.frames[n])
		n++
	}
	batch = append(batch, l.frames[:n]...)
	clear(l.frames[:n]) // the array must not keep the frames alive
	l.bytes -= size
	l.replies = max(0, l.replies-n)
	if l.frames = l.frames[n:]; len(l.frames) == 0 {
		l.frames = nil
	}
	return batch
}

func (l *lane) clear() { *l = lane{} }
