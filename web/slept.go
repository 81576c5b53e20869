package web

import (
	"time"

	"github.com/entity-sync/entity-sync/web/wire"
)

// A deadline that passes while the node does not run, because it was stopped or its
// machine slept, says nothing of the client: what it has answered may lie in the socket,
// and it may not have been asked. So a deadline that is over is not the end. It is
// looked once more into the socket; and where the deadline is noticed much later than it
// was set for, or was over before the client had its time to answer, the client is asked
// anew. One that is gone is ended a little later.

// slack is how much later than its time a deadline is noticed by a node that does not
// sleep, at most. It is as long for what may lie in the socket to be read.
func slack(limit time.Duration) time.Duration { return limit / 4 }

// readOn decides what becomes of a client whose time to say something is over. It
// returns true where reading is to go on, until a later time.
func (s *session) readOn() bool {
	until, ask := s.secondChance(time.Now())
	if ask {
		s.out.sendPing()
	}
	return !until.IsZero()
}

// secondChance returns until when reading goes on, zero where it ends.
func (s *session) secondChance(now time.Time) (until time.Time, ask bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	due := &s.silent
	if !s.endOfMessage.IsZero() {
		due = &s.endOfMessage
	}
	wait := s.handler.config.PongWait
	late := now.Sub(*due)
	switch {
	case s.leaving || s.ended:
		return time.Time{}, false
	case late < 0: // it was set anew just now
		until = *due
	case late >= slack(wait), due == &s.silent && s.asked.IsZero():
		until, ask, s.looked = now.Add(wait), due == &s.silent, false
		if ask {
			s.asked, s.written = now, s.out.progress()
		}
	case due == &s.silent && now.Sub(s.asked) < wait: // the ping was late
		until = s.asked.Add(wait)
	case due == &s.silent && s.progressedLocked(): // a message has its time, whatever the line
		until = now.Add(wait)
	case !s.looked:
		until, s.looked = now.Add(slack(wait)), true
	default:
		return time.Time{}, false
	}
	*due = until
	if err := s.conn.SetReadDeadline(until); err != nil {
		return time.Time{}, false
	}
	return until, ask
}

// progressedLocked reports whether the client's system has acknowledged some of what was
// written, if the ping may wait behind that.
func (s *session) progressedLocked() bool {
	before := s.written
	s.written = s.out.progress()
	return s.written.since(before)
}

// expectSecret ends a session that has no secret in time. What the client has said may
// lie in the socket where the node has slept.
func (s *session) expectSecret(due time.Time) {
	late, wait := time.Since(due), slack(s.handler.config.SecretTimeout)
	s.mu.Lock()
	missing := !s.identity.known && !s.ended
	slept := missing && late >= wait
	if slept {
		s.startExpectingLocked(wait)
	}
	s.mu.Unlock()
	if missing && !slept {
		s.closeGracefully(wire.CloseUnauthenticated, "say a secret first")
	}
}

func (s *session) startExpectingLocked(wait time.Duration) {
	due := time.Now().Add(wait)
	s.expiry = time.AfterFunc(wait, func() { s.expectSecret(due) })
}
