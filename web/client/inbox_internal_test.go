package client

import (
	"testing"

	"pgregory.net/rapid"
)

// Whatever comes and is taken in whatever order: nothing is lost in silence, and what waits is
// bounded.
func TestInbox(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := &inbox{topic: "news"}
		var events, taken, missed uint64
		isKnown := true
		take := func() bool {
			r, ok, _ := b.next()
			switch {
			case !ok:
				return false
			case !r.Gap:
				taken++
			case r.Missed == 0:
				isKnown = false
			default:
				missed += r.Missed
			}
			return true
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			n := rapid.IntRange(1, 200).Draw(t, "n")
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				for range n {
					take()
				}
			case 1:
				events += uint64(n)
				b.put(Received{Topic: "news", Gap: true, Missed: uint64(n)})
			case 2:
				if rapid.IntRange(0, 9).Draw(t, "unknown") == 0 {
					b.put(Received{Topic: "news", Gap: true})
				}
			default:
				for range n {
					events++
					b.put(Received{Topic: "news.uk"})
				}
			}
			if b.events > maxWaiting || len(b.waiting) > 2*maxWaiting+1 {
				t.Fatalf("%d wait, of which %d are events", len(b.waiting), b.events)
			}
			for i := 1; i < len(b.waiting); i++ {
				if b.waiting[i-1].Gap && b.waiting[i].Gap {
					t.Fatal("two gaps stand side by side")
				}
			}
		}
		for take() {
		}
		if total := taken + missed; total > events || isKnown && total < events {
			t.Fatalf("%d were taken and %d missed of %d", taken, missed, events)
		}
	})
}
