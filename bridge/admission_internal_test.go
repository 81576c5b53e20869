package bridge

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Whatever comes and goes: the limit holds, a place that is free is not kept from
// one that waits and may have it, and every type can have its share.
func TestAdmissionKeepsItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := &admission{limit: rapid.IntRange(1, 12).Draw(t, "limit")}
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
	a := &admission{limit: 2}
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

// Two clients ask for a view in turns, for as long as it takes. It is moved to the
// end for the first of them alone, or it would never be served.
func TestAViewIsFavouredOnce(t *testing.T) {
	var l fairQueue
	const busy = 3 // clients, with more to do than the test lasts
	for range 100 {
		for client := range uint64(busy) {
			l.put(&view{pending: new(pendingFetch)}, client)
		}
	}
	v := &view{pending: new(pendingFetch)}
	l.put(v, 0)
	for served := range busy + 2 {
		l.moveToShorter(v, busy+uint64(served)%2)
		if l.pop() == v {
			return
		}
	}
	t.Error("it is not served within a turn of everybody's")
}

// Nobody is lost in a line, or waits for longer than it takes to serve one of
// each flow before each of one's own.
func TestFairLine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l fairQueue
		waiting := map[*view]uint64{} // on whose behalf
		ahead := func(client uint64) (n int) {
			for _, c := range waiting {
				if c%flowCount == client%flowCount {
					n++
				}
			}
			return n
		}
		pick := func(t *rapid.T) *view {
			var names []string
			byName := map[string]*view{}
			for v := range waiting {
				names = append(names, v.id)
				byName[v.id] = v
			}
			if len(names) == 0 {
				return nil
			}
			slices.Sort(names)
			return byName[rapid.SampledFrom(names).Draw(t, "view")]
		}
		client := rapid.Uint64Range(0, 2*flowCount)
		ever := 0
		patience := map[*view]int{} // how many may be served before it
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				v, c := &view{pending: new(pendingFetch)}, client.Draw(t, "client")
				v.id = fmt.Sprint(ever)
				ever++
				waiting[v] = c
				l.put(v, c)
				patience[v] = ahead(c) * flowCount
			},
			"moveToShorter": func(t *rapid.T) {
				if v := pick(t); v != nil {
					c := client.Draw(t, "client")
					before := v.pending.waiting.flow
					l.moveToShorter(v, c)
					if v.pending.waiting.flow != before {
						waiting[v] = c
						patience[v] = flowCount
					}
				}
			},
			"drop": func(t *rapid.T) {
				if v := pick(t); v != nil {
					if !l.drop(v) || l.drop(v) {
						t.Fatal("a view that waits is dropped once")
					}
					delete(waiting, v)
				}
			},
			"pop": func(t *rapid.T) {
				v := l.pop()
				if _, waits := waiting[v]; waits != (v != nil) || v == nil && len(waiting) > 0 {
					t.Fatalf("popped %v of %d that wait", v, len(waiting))
				}
				delete(waiting, v)
				for other := range waiting {
					if patience[other]--; patience[other] < 0 {
						t.Fatal("a view waits for longer than its turn")
					}
				}
			},
			"": func(t *rapid.T) {
				if l.length != len(waiting) {
					t.Fatalf("%d wait, counted as %d", len(waiting), l.length)
				}
			},
		})
	})
}
