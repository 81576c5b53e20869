package web

import (
	"time"

	"golang.org/x/time/rate"
)

// paceBurst is for how many seconds a client may be ahead of its rate.
const paceBurst = 10

// toldSlower is how often a client is told that it is being slowed down.
const toldSlower = time.Minute

// paceStep is how long a session that is slowed down does not notice that it ends.
const paceStep = 50 * time.Millisecond

// pace is how fast something of a client's is taken.
type pace struct {
	limiter *rate.Limiter
	told    time.Time
}

func newPace(perSecond int) pace {
	return pace{limiter: rate.NewLimiter(rate.Limit(perSecond), paceBurst*perSecond)}
}

// keepPace waits until one more may be taken, and returns false where the session
// ends first. Not reading is what slows a client down without losing anything of
// it: its own writes then wait.
func (s *session) keepPace(p *pace, what string) bool {
	wait := p.limiter.Reserve().Delay()
	if wait > 0 && time.Since(p.told) > toldSlower {
		p.told = time.Now()
		s.refuse(&refusal{code: codeRateLimited, message: "too many " + what + ": they are taken more slowly"})
	}
	for wait > 0 && !s.isLeaving() {
		step := min(wait, paceStep)
		time.Sleep(step)
		wait -= step
	}
	return !s.isLeaving()
}
