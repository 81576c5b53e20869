package web

import (
	"time"

	"golang.org/x/time/rate"
)

// paceBurst is for how many seconds a client may be ahead of its rate.
const paceBurst = 10

// toldSlower is how often a client is told that it is being slowed down.
const toldSlower = time.Minute

// pace is how fast something of a client's is taken.
type pace struct {
	limiter *rate.Limiter
	told    time.Time
}

func newPace(perSecond int) pace {
	return pace{limiter: rate.NewLimiter(rate.Limit(perSecond), paceBurst*perSecond)}
}

// keepPace waits until one more may be taken. Not reading is what slows a client
// down without losing anything of it: its own writes then wait.
func (s *session) keepPace(p *pace, what string) {
	wait := p.limiter.Reserve().Delay()
	if wait == 0 {
		return
	}
	if time.Since(p.told) > toldSlower {
		p.told = time.Now()
		s.refuse(&refusal{code: codeRateLimited, message: "too many " + what + ": they are taken more slowly"})
	}
	time.Sleep(wait)
}
