package tokenbucket

import (
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"
	"pgregory.net/rapid"

	"github.com/entity-sync/entity-sync/internal/instant"
)

// A bucket is what a well-known limiter says it is.
func TestABucketAgainstALimiter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		perSecond := rapid.SampledFrom([]int{1, 3, 100, 1_000_000}).Draw(t, "per second")
		b, limiter := New(perSecond), rate.NewLimiter(rate.Limit(perSecond), BurstSeconds*perSecond)
		now := time.Now()
		t.Repeat(map[string]func(*rapid.T){
			"time passes": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.Int64Range(0, int64(2*BurstSeconds*time.Second)).Draw(t, "for")))
			},
			"some are taken": func(t *rapid.T) {
				for range rapid.IntRange(1, 50).Draw(t, "n") {
					got, want := b.Take(instant.Of(now)), limiter.ReserveN(now, 1).DelayFrom(now)
					if d := got - want; d > time.Microsecond || d < -time.Microsecond {
						t.Fatalf("one waits %v, want %v", got, want)
					}
				}
			},
		})
	})
}

// A client is told at once, and then once in an interval.
func TestAClientIsToldOnceInAnInterval(t *testing.T) {
	b, now := New(1), instant.Now()
	for _, at := range []struct {
		after time.Duration
		tell  bool
	}{{0, true}, {time.Minute, false}, {time.Minute + 1, true}, {2 * time.Minute, false}} {
		if tell := b.Tell(now.Add(at.after), time.Minute); tell != at.tell {
			t.Errorf("after %v it is to be told: %v", at.after, tell)
		}
	}
}

// A bucket is full at first, also in a bubble, whose clock is before the program's.
func TestABucketIsFullAtFirst(t *testing.T) {
	take := func(t *testing.T) {
		b := New(1)
		for i := range BurstSeconds {
			if wait := b.Take(instant.Now()); wait > 0 {
				t.Fatalf("token %d waits %v", i, wait)
			}
		}
	}
	take(t)
	synctest.Test(t, take)
}
