package web

import (
	"time"

	"github.com/entity-sync/entity-sync/web/wire"
)

// burstSeconds is for how many seconds a client may be ahead of its rate.
const burstSeconds = 10

// toldSlower is how often a client is told that it is being slowed down.
const toldSlower = time.Minute

// waitStep is how long a session that is slowed down does not notice that it ends.
const waitStep = 50 * time.Millisecond

// tokenBucket is how fast something of a client's is taken. It remembers nothing but when
// it will be full again.
type tokenBucket struct {
	every time.Duration // that one may be taken
	full  time.Time
	told  time.Time
}

func newTokenBucket(perSecond int) tokenBucket {
	return tokenBucket{every: time.Second / time.Duration(perSecond)}
}

// take takes one, and returns how long to wait before it may be used.
func (p *tokenBucket) take(now time.Time) (wait time.Duration) {
	if p.full.Before(now) {
		p.full = now
	}
	p.full = p.full.Add(p.every)
	return max(0, p.full.Sub(now)-burstSeconds*time.Second)
}

// waitForToken waits until one more may be taken, and returns false where the session
// ends first. Not reading is what slows a client down without losing anything of
// it: its own writes then wait.
func (s *session) waitForToken(p *tokenBucket, what string) bool {
	now := time.Now()
	wait := p.take(now)
	if wait > 0 && now.Sub(p.told) > toldSlower {
		p.told = now
		s.refuse(&wire.Refusal{Code: wire.CodeRateLimited, Message: "too many " + what + ": they are taken more slowly"})
	}
	for wait > 0 && !s.conn.IsLeaving() {
		step := min(wait, waitStep)
		time.Sleep(step)
		wait -= step
	}
	return !s.conn.IsLeaving()
}
