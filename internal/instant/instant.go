// Package instant holds moments in 8 bytes, of which a time.Time takes 24, for what there are
// very many of. Instants follow the monotonic clock, and not the wall clock.
package instant

import "time"

// origin is one nanosecond before the program begins: the number of each later moment is
// above zero.
var origin = time.Now().Add(-1)

// Instant is a moment, in nanoseconds. The zero Instant is none.
type Instant int64

// Now is this moment.
func Now() Instant { return Of(time.Now()) }

// Of returns the moment of t, which must come from time.Now.
func Of(t time.Time) Instant { return Instant(t.Sub(origin)) }

// Time returns the moment as package time has it, for deadlines and timers.
func (i Instant) Time() time.Time { return origin.Add(time.Duration(i)) }

// IsZero reports whether it is none.
func (i Instant) IsZero() bool { return i == 0 }

// Add returns the moment that is later by d.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d) }

// Sub returns how much later i is than j.
func (i Instant) Sub(j Instant) time.Duration { return time.Duration(i - j) }

// Before reports whether i comes before j.
func (i Instant) Before(j Instant) bool { return i < j }

// After reports whether i comes after j.
func (i Instant) After(j Instant) bool { return i > j }
