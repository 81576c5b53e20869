package schedule

import (
	"testing"

	"pgregory.net/rapid"
)

// Whatever comes and goes: the limit holds, a place that is free is not kept from
// one that waits and may have it, and every schedule can have its share.
func TestALimitKeepsItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := NewLimit(rapid.IntRange(1, 12).Draw(t, "limit"))
		var shares []*share
		for range rapid.IntRange(1, 5).Draw(t, "schedules") {
			s := &share{workers: rapid.IntRange(1, 8).Draw(t, "workers")}
			shares = append(shares, s)
			l.add(s)
		}
		any := func(t *rapid.T) *share { return shares[rapid.IntRange(0, len(shares)-1).Draw(t, "schedule")] }
		held := map[*share]int{}
		grant := func(s *share) {
			if s != nil {
				held[s]++
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"enter": func(t *rapid.T) {
				s := any(t)
				if held[s] < s.workers && l.enter(s) {
					held[s]++
				}
			},
			"leave": func(t *rapid.T) {
				if s := any(t); held[s] > 0 {
					held[s]--
					grant(l.leave(s))
				}
			},
			"yield": func(t *rapid.T) {
				if s := any(t); held[s] > 0 {
					if to := l.yield(s); to != nil {
						held[s]--
						grant(to)
					}
				}
			},
			"": func(t *rapid.T) {
				total := 0
				for s, n := range held {
					total += n
					if s.taken != n {
						t.Fatalf("a schedule holds %d places, counted as %d", n, s.taken)
					}
				}
				if total != l.taken || total > l.size {
					t.Fatalf("%d places are taken, counted as %d, of %d", total, l.taken, l.size)
				}
				for _, s := range l.waiting {
					if l.mayEnter(s) {
						t.Fatal("a schedule waits for a place that it could have")
					}
				}
				for _, s := range shares {
					equal := min(l.size/(2*len(shares)), s.workers)
					if l.size >= len(shares) {
						equal = max(equal, 1) // there is one for each
					}
					if held[s] < equal && !l.mayEnter(s) {
						t.Fatalf("a schedule that holds %d of its share of %d is refused", held[s], equal)
					}
				}
			},
		})
	})
}

// With fewer places than schedules none is kept: one schedule may have them all.
func TestMoreSchedulesThanPlaces(t *testing.T) {
	l := NewLimit(2)
	var shares []*share
	for range 3 {
		shares = append(shares, &share{workers: 8})
		l.add(shares[len(shares)-1])
	}
	for range 2 {
		if !l.enter(shares[0]) {
			t.Error("a place that nobody else wants is kept from the only schedule that does")
		}
	}
	if l.enter(shares[1]) {
		t.Error("there are more places than the limit")
	}
	if granted := l.leave(shares[0]); granted != shares[1] {
		t.Error("a place that was given back is not granted to the schedule that waits")
	}
}
