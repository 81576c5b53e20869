package websocket

import (
	"github.com/entity-sync/entity-sync/internal/instant"
	"github.com/entity-sync/entity-sync/web/internal/timers"
)

// A deadline may pass while the node does not run, because it was stopped or its machine
// slept. Such a deadline says nothing of the client: the client's answer may lie unread in the
// socket, or the client may not have been pinged. So after a deadline the socket is read once
// more. If the deadline was noticed much later than it was set for, or was over before the
// client had its time to answer, the client is pinged again. A client that is gone is ended a
// little later.

// extendDeadline gives the client until after the next ping to send something again.
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

// due implements timers.Called for a Conn.
type due Conn

// Due implements timers.Called. It pings the client at intervals. When the client has sent
// nothing for too long, its reading goroutine notices by itself; a parked Conn is resumed to
// notice.
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

// readOn decides on a client whose read deadline has passed. It returns true if reading is to
// go on, until a later deadline.
func (c *Conn) readOn() bool {
	until, ask := c.secondChance(instant.Now())
	if ask {
		c.owner.Ask()
	}
	return !until.IsZero()
}

// secondChance returns until when reading goes on, or zero if it ends.
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
	case late < 0: // the deadline was extended just now
		until = *due
	case late >= timers.Slack(wait), due == &c.silent && c.asked == nil:
		until, ask, c.looked = now.Add(wait), due == &c.silent, false
		if ask {
			c.asked = c.askedAt(now)
		}
	case due == &c.silent && now.Sub(c.asked.at) < wait: // the ping was late
		until = c.asked.at.Add(wait)
	case due == &c.silent && c.progressed(c.asked): // a slow line excuses silence, not a slow message
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

// progressed reports whether the client's system has acknowledged bytes that were written since
// the question or the last call, and behind which the ping may wait.
func (c *Conn) progressed(q *question) bool {
	before := q.written
	q.written = c.socket.Progress()
	return q.written.Since(before)
}
