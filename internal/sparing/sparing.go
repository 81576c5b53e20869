// Package sparing picks which events of an endless series get a log line, so that no client
// can fill a disk with lines.
package sparing

import (
	"math/bits"
	"sync/atomic"
)

// Counter counts events of one kind, and picks the 1st, 2nd, 4th, 8th … for the log. The
// zero value is ready to use, from any goroutine.
type Counter struct{ n atomic.Uint64 }

// Again counts one more event. It returns how many there were, and whether to log this one.
func (c *Counter) Again() (n uint64, say bool) {
	n = c.n.Add(1)
	return n, Says(n)
}

// Says reports whether the n-th event is logged.
func Says(n uint64) bool { return n&(n-1) == 0 }

// SaysBetween reports whether an event after the before-th, up to the now-th, is logged.
func SaysBetween(before, now uint64) bool { return bits.Len64(before) < bits.Len64(now) }

// Count returns how many events there were.
func (c *Counter) Count() uint64 { return c.n.Load() }
