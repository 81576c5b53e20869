package backoff

import (
	"math"
	"testing"
	"time"
)

func TestTheLongestWaitThereIs(t *testing.T) {
	p := Policy{Min: time.Second, Max: math.MaxInt64}
	for failures := range 100 {
		if d := p.Delay(failures); d < 0 {
			t.Errorf("Delay(%d) = %v", failures, d)
		}
	}
}

func TestDelayStaysUnderADoublingCeiling(t *testing.T) {
	p := Policy{Min: 100 * time.Millisecond, Max: 30 * time.Second}
	for failures, want := range map[int]time.Duration{
		1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 5: 1600 * time.Millisecond,
		9: 25600 * time.Millisecond, 10: 30 * time.Second, 1000: 30 * time.Second,
	} {
		if got := p.ceiling(failures); got != want {
			t.Errorf("ceiling(%d) = %v, want %v", failures, got, want)
		}
		for range 100 {
			if d := p.Delay(failures); d < 0 || d > want {
				t.Fatalf("Delay(%d) = %v, outside 0 to %v", failures, d, want)
			}
		}
	}
}
