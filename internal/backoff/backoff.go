// Package backoff says how long to wait before trying something again.
package backoff

import (
	"math"
	"math/rand/v2"
	"time"
)

// Policy is exponential back-off with full jitter. The first wait is uniformly random
// between zero and Min. The bound doubles with each further wait, up to Max. Full jitter
// spreads callers that failed at the same instant over the whole interval.
type Policy struct {
	Min, Max time.Duration
}

// Delay returns how long to wait after the given number of failures in a row: 1 after the
// first.
func (p Policy) Delay(failures int) time.Duration {
	return rand.N(min(p.ceiling(failures), math.MaxInt64-1) + 1) //nolint:gosec // jitter is no secret
}

func (p Policy) ceiling(failures int) time.Duration {
	d := p.Min
	for range failures - 1 {
		d *= 2
		if d >= p.Max || d <= 0 { // <= 0: the doubling overflowed
			return p.Max
		}
	}
	return min(d, p.Max)
}
