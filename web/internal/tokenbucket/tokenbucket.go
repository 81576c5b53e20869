// Package tokenbucket bounds how fast something is taken.
package tokenbucket

import (
	"time"

	"github.com/entity-sync/entity-sync/internal/instant"
)

// BurstSeconds is for how many seconds a client may be ahead of its rate.
const BurstSeconds = 10

// Bucket is how fast something of a client's is taken. It remembers nothing but when it will
// be full again.
type Bucket struct {
	every time.Duration // that one may be taken
	full  instant.Instant
	told  instant.Instant // zero for never
}

// New returns a full bucket.
func New(perSecond int) Bucket {
	return Bucket{every: time.Second / time.Duration(perSecond)}
}

// Take takes one, and returns how long to wait before it may be used.
func (b *Bucket) Take(now instant.Instant) (wait time.Duration) {
	if b.full.Before(now) {
		b.full = now
	}
	b.full = b.full.Add(b.every)
	return max(0, b.full.Sub(now)-BurstSeconds*time.Second)
}

// Tell reports whether the client is to be told that it is slowed down: it was not, within
// the last interval.
func (b *Bucket) Tell(now instant.Instant, interval time.Duration) bool {
	tell := b.told.IsZero() || now.Sub(b.told) > interval
	if tell {
		b.told = now
	}
	return tell
}
