package testkit

import (
	"testing"
	"time"
)

// Patience is how long a test waits for an event that must come. No event takes nearly as
// long, unless the machine is busy with much else.
const Patience = time.Minute

// Until waits until something holds that comes about by itself, and fails the test where
// that does not happen.
func Until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	if !Within(Patience, holds) {
		t.Fatalf("waited %v in vain until %s", Patience, what)
	}
}

// Within waits for something to hold, and returns false where that takes longer than the
// limit.
func Within(limit time.Duration, holds func() bool) bool {
	for begin := time.Now(); !holds(); {
		waited := time.Since(begin)
		if waited > limit {
			return false
		}
		// Often at first, so that the wait is too long by a tenth at most. Later less often,
		// because looking takes processor time from what the test waits for.
		time.Sleep(min(max(waited/10, time.Millisecond), 10*time.Millisecond))
	}
	return true
}
