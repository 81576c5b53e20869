package nsqbus

import "sync/atomic"

// sparing counts what may happen without end, and picks the 1st, 2nd, 4th,
// 8th … time for the log: nobody may be able to fill the disk with it.
type sparing struct{ n atomic.Uint64 }

// again counts one more. It returns how many there were, and whether to say so.
func (s *sparing) again() (n uint64, say bool) {
	n = s.n.Add(1)
	return n, isSpared(n)
}

func isSpared(n uint64) bool { return n&(n-1) == 0 }
