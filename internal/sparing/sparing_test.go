package sparing_test

import (
	"slices"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/internal/sparing"
)

func TestPowersOfTwoAreSaid(t *testing.T) {
	var c sparing.Counter
	var said []uint64
	for range 100 {
		if n, say := c.Again(); say {
			said = append(said, n)
		}
	}
	if want := []uint64{1, 2, 4, 8, 16, 32, 64}; !slices.Equal(said, want) {
		t.Errorf("said at %d, want %d", said, want)
	}
}

func TestWhatIsSaidBetween(t *testing.T) {
	for before := range uint64(70) {
		for now := before; now < 70; now++ {
			want := false
			for n := before + 1; n <= now; n++ {
				want = want || sparing.Says(n)
			}
			if got := sparing.SaysBetween(before, now); got != want {
				t.Errorf("after %d, up to %d: %v, want %v", before, now, got, want)
			}
		}
	}
}

func TestOneIsSaidInEachPeriod(t *testing.T) {
	p := sparing.Period{Every: time.Minute}
	var said []uint64
	now := time.Now()
	for range 150 { // seconds
		if n, say := p.Again(now); say {
			said = append(said, n)
		}
		now = now.Add(time.Second)
	}
	if want := []uint64{1, 60, 60}; !slices.Equal(said, want) {
		t.Errorf("said that there were %d more, want %d", said, want)
	}
}
