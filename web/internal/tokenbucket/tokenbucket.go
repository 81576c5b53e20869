// Package tokenbucket bounds the rate of a client's requests.
package tokenbucket

import (
	"time"

	"github.com/entity-sync/entity-sync/internal/instant"
)

// BurstSeconds is for how many seconds a client may be ahead of its rate.
const BurstSeconds = 10

// Bucket is a token bucket. It stores only when it will be full again.
type Bucket struct {
	every time.Duration   // for one token to come back
	full  instant.Instant // zero before the first token is taken
	told  instant.Instant // zero for never
}

// New returns a full bucket.
func New(perSecond int) Bucket {
	return Bucket{every: time.Second / time.Duration(perSecond)}
}

// Take takes one token, and returns how long to wait before using it.
func (b *Bucket) Take(now instant.Instant) (wait time.Duration) {
	if b.full.IsZero() || b.full.Before(now) { // instants in a bubble of synctest are below zero
		b.full = now
	}
	b.full = b.full.Add(b.every)
	return max(0, b.full.Sub(now)-BurstSeconds*time.Second)
}

// Tell reports whether the client is to be told that it is slowed down: within the last
// interval it was not told.
func (b *Bucket) Tell(now instant.Instant, interval time.Duration) bool {
	tell := b.told.IsZero() || now.Sub(b.told) > interval
	if tell {
		b.told = now
	}
	return tell
}
