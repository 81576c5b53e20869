// Package sparing picks which of the events that may go on without end get a log line,
// so that no client can fill a disk with lines.
package sparing

import (
	"math/bits"
	"sync/atomic"
)

// Counter counts one kind of thing, and picks the 1st, 2nd, 4th, 8th … time. The zero
// value is ready to use, from any goroutine.
type Counter struct{ n atomic.Uint64 }

// Again counts one more. It returns how many there were, and whether to say so.
func (c *Counter) Again() (n uint64, say bool) {
	n = c.n.Add(1)
	return n, Says(n)
}

// Says reports whether the n-th time is one that is said.
func Says(n uint64) bool { return n&(n-1) == 0 }

// SaysBetween reports whether one of the times after the before-th is said, up to the now-th.
func SaysBetween(before, now uint64) bool { return bits.Len64(before) < bits.Len64(now) }

// Count returns how many there were.
func (c *Counter) Count() uint64 { return c.n.Load() }
