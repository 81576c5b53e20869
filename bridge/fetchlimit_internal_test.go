package bridge

import (
	"testing"

	"pgregory.net/rapid"
)

// Whatever comes and goes: the limit holds, a place that is free is not kept from
// one that waits and may have it, and every type can have its share.
func TestAdmissionKeepsItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := &fetchLimit{limit: rapid.IntRange(1, 12).Draw(t, "limit")}
		var queues []*fetchQueue
		for range rapid.IntRange(1, 5).Draw(t, "types") {
			q := &fetchQueue{entity: &entity{options: EntityOptions{Workers: rapid.IntRange(1, 8).Draw(t, "workers")}}}
			queues = append(queues, q)
			a.add(q)
		}
		any := func(t *rapid.T) *fetchQueue { return queues[rapid.IntRange(0, len(queues)-1).Draw(t, "type")] }
		held := map[*fetchQueue]int{}
		grant := func(q *fetchQueue) {
			if q != nil {
				held[q]++
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"enter": func(t *rapid.T) {
				q := any(t)
				if held[q] < q.entity.options.Workers && a.enter(q) {
					held[q]++
				}
			},
			"leave": func(t *rapid.T) {
				if q := any(t); held[q] > 0 {
					held[q]--
					grant(a.leave(q))
				}
			},
			"yield": func(t *rapid.T) {
				if q := any(t); held[q] > 0 {
					if to := a.yield(q); to != nil {
						held[q]--
						grant(to)
					}
				}
			},
			"": func(t *rapid.T) {
				total := 0
				for q, n := range held {
					total += n
					if q.places.taken != n {
						t.Fatalf("a type holds %d places, counted as %d", n, q.places.taken)
					}
				}
				if total != a.taken || total > a.limit {
					t.Fatalf("%d places are taken, counted as %d, of %d", total, a.taken, a.limit)
				}
				for _, q := range a.waiting {
					if a.mayEnter(q) {
						t.Fatal("a type waits for a place that it could have")
					}
				}
				for _, q := range queues {
					share := min(a.limit/(2*len(queues)), q.entity.options.Workers)
					if a.limit >= len(queues) {
						share = max(share, 1) // there is one for each
					}
					if held[q] < share && !a.mayEnter(q) {
						t.Fatalf("a type that holds %d of its share of %d is refused", held[q], share)
					}
				}
			},
		})
	})
}

// With fewer places than types none is kept: one type may have them all.
func TestMoreTypesThanPlaces(t *testing.T) {
	a := &fetchLimit{limit: 2}
	var queues []*fetchQueue
	for range 3 {
		queues = append(queues, &fetchQueue{entity: &entity{options: EntityOptions{Workers: 8}}})
		a.add(queues[len(queues)-1])
	}
	for range 2 {
		if !a.enter(queues[0]) {
			t.Error("a place that nobody else wants is kept from the only type that does")
		}
	}
	if a.enter(queues[1]) {
		t.Error("there are more places than the limit")
	}
	if granted := a.leave(queues[0]); granted != queues[1] {
		t.Error("a place that was given back is not granted to the type that waits")
	}
}
