package client

import (
	"math"
	"slices"
	"time"

	"github.com/entity-sync/entity-sync/internal/backoff"
)

// askAgain is for keys that the server cannot serve now.
var askAgain = backoff.Policy{Min: time.Second, Max: 30 * time.Second}

// putOffLocked asks again later for a key that is unavailable. The wait depends on how often
// the key itself was refused in a row. Keys that were refused equally often wait together, so
// that they are asked for together.
func (s *session) putOffLocked(e *entry) {
	e.refusals++
	e.due = time.Now().Add(askAgain.Delay(e.refusals))
	for _, other := range s.later {
		if other != e && other.refusals == e.refusals {
			e.due = other.due
			break
		}
	}
	if e.waitsIn != s {
		e.waitsIn = s
		s.later = append(s.later, e)
	}
	s.wakeUp()
}

// untilDue returns how long it is until the first key or topic in later is due: for ever if there is
// none.
func (s *session) untilDue() time.Duration {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	first := time.Duration(math.MaxInt64)
	for _, e := range s.later {
		first = min(first, time.Until(e.due))
	}
	for _, e := range s.topics.later {
		first = min(first, time.Until(e.due))
	}
	return first
}

// askDue asks again for the keys and topics that are due.
func (s *session) askDue() {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	now := time.Now()
	s.later = slices.DeleteFunc(s.later, func(e *entry) bool {
		if e.due.After(now) {
			return false
		}
		e.waitsIn = nil
		s.queue = append(s.queue, e)
		return true
	})
	s.askDueTopicsLocked(now)
	if len(s.queue)+len(s.topics.queue) > 0 {
		s.wakeUp()
	}
}
