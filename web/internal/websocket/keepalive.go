package websocket

import (
	"github.com/entity-sync/entity-sync/internal/instant"
	"github.com/entity-sync/entity-sync/web/internal/timers"
)

// A deadline that passes while the node does not run, because it was stopped or its
// machine slept, says nothing of the client: what it has answered may lie in the socket,
// and it may not have been asked. So a deadline that is over is not the end. It is
// looked once more into the socket; and where the deadline is noticed much later than it
// was set for, or was over before the client had its time to answer, the client is asked
// anew. One that is gone is ended a little later.

// extendDeadline gives the client until after the next ping to be heard of again.
func (c *Conn) extendDeadline() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving || !c.endOfMessage.IsZero() {
		return nil
	}
	c.silent = instant.Now().Add(c.config.PingInterval + c.config.PongWait)
	c.asked, c.looked = nil, false
	return c.ws.SetReadDeadline(c.silent.Time())
}

// due is the Conn for the timers.
type due Conn

// Due implements timers.Called. It asks the client now and then whether it is there. Of one
// that was not heard of for too long a goroutine that reads notices by itself; one that is
// parked is resumed to do so.
func (d *due) Due() {
	c, now := (*Conn)(d), instant.Now()
	c.mu.Lock()
	ask, gone := !now.Before(c.nextPing), !now.Before(c.silent)
	if ask {
		c.nextPing = now.Add(c.config.PingInterval)
		if c.asked == nil {
			c.asked = c.askedAt(now)
		}
	}
	if !c.ended {
		next := c.nextPing
		if !gone && c.silent.Before(next) {
			next = c.silent
		}
		c.config.Timers.Schedule(&c.timer, next, d)
	}
	c.mu.Unlock()
	if ask {
		c.owner.Ask()
	}
	if gone {
		c.resume()
	}
}

// readOn decides what becomes of a client whose time to say something is over. It
// returns true where reading is to go on, until a later time.
func (c *Conn) readOn() bool {
	until, ask := c.secondChance(instant.Now())
	if ask {
		c.owner.Ask()
	}
	return !until.IsZero()
}

// secondChance returns until when reading goes on, zero where it ends.
func (c *Conn) secondChance(now instant.Instant) (until instant.Instant, ask bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	due := &c.silent
	if !c.endOfMessage.IsZero() {
		due = &c.endOfMessage
	}
	wait := c.config.PongWait
	late := now.Sub(*due)
	switch {
	case c.leaving || c.ended:
		return 0, false
	case late < 0: // it was set anew just now
		until = *due
	case late >= timers.Slack(wait), due == &c.silent && c.asked == nil:
		until, ask, c.looked = now.Add(wait), due == &c.silent, false
		if ask {
			c.asked = c.askedAt(now)
		}
	case due == &c.silent && now.Sub(c.asked.at) < wait: // the ping was late
		until = c.asked.at.Add(wait)
	case due == &c.silent && c.progressed(c.asked): // a message has its time, whatever the line
		until = now.Add(wait)
	case !c.looked:
		until, c.looked = now.Add(timers.Slack(wait)), true
	default:
		return 0, false
	}
	*due = until
	if err := c.ws.SetReadDeadline(until.Time()); err != nil {
		return 0, false
	}
	return until, ask
}

func (c *Conn) askedAt(now instant.Instant) *question {
	return &question{at: now, written: c.socket.Progress()}
}

// progressed reports whether the client's system has acknowledged some of what was written
// since the question or the last time, if the ping may wait behind that.
func (c *Conn) progressed(q *question) bool {
	before := q.written
	q.written = c.socket.Progress()
	return q.written.Since(before)
}
