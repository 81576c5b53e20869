package outbox

import (
	"testing"
	"time"
)

func TestLatenessIsNewsOnceAMinuteAndOnlyIfItLasts(t *testing.T) {
	var l lateness
	now := time.Now()
	for i, step := range []struct {
		after, waited time.Duration
		want          bool
	}{
		{time.Second, time.Hour, false}, // what a long transaction wrote
		{time.Second, 0, false},
		{time.Second, 11 * time.Second, false},
		{time.Second, 12 * time.Second, true},
		{time.Second, 13 * time.Second, false},
		{time.Minute, 73 * time.Second, true},
		{time.Second, 10 * time.Second, false},
		{time.Hour, 11 * time.Second, false},
		{time.Second, 12 * time.Second, true},
	} {
		now = now.Add(step.after)
		if got := l.isNews(step.waited, now); got != step.want {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
}
