package fairqueue

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

type value struct {
	id    string
	entry Entry[*value]
}

func put(q *Queue[*value], v *value, client uint64) { q.Put(&v.entry, v, client) }

// Two clients ask for a value in turns, for as long as it takes. It is moved to the
// end for the first of them alone, or it would never be served.
func TestAValueIsMovedOnce(t *testing.T) {
	var q Queue[*value]
	const busy = 3 // clients, with more to do than the test lasts
	for range 100 {
		for client := range uint64(busy) {
			put(&q, new(value), client)
		}
	}
	v := new(value)
	put(&q, v, 0)
	for served := range busy + 2 {
		q.MoveToShorter(&v.entry, busy+uint64(served)%2)
		if first, _ := q.Pop(); first == v {
			return
		}
	}
	t.Error("it is not served within a turn of everybody's")
}

// Nothing is lost in a queue, or waits for longer than it takes to serve one of
// each flow before each of one's own.
func TestFairness(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q Queue[*value]
		waiting := map[*value]uint64{} // on whose behalf
		ahead := func(client uint64) (n int) {
			for _, c := range waiting {
				if c%flowCount == client%flowCount {
					n++
				}
			}
			return n
		}
		pick := func(t *rapid.T) *value {
			var names []string
			byName := map[string]*value{}
			for v := range waiting {
				names = append(names, v.id)
				byName[v.id] = v
			}
			if len(names) == 0 {
				return nil
			}
			slices.Sort(names)
			return byName[rapid.SampledFrom(names).Draw(t, "value")]
		}
		client := rapid.Uint64Range(0, 2*flowCount)
		ever := 0
		patience := map[*value]int{} // how many may be served before it
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				v, c := new(value), client.Draw(t, "client")
				v.id = fmt.Sprint(ever)
				ever++
				waiting[v] = c
				put(&q, v, c)
				patience[v] = ahead(c) * flowCount
			},
			"move to shorter": func(t *rapid.T) {
				if v := pick(t); v != nil {
					c := client.Draw(t, "client")
					before := v.entry.flow
					q.MoveToShorter(&v.entry, c)
					if v.entry.flow != before {
						waiting[v] = c
						patience[v] = flowCount
					}
				}
			},
			"drop": func(t *rapid.T) {
				if v := pick(t); v != nil {
					if !q.Drop(&v.entry) || q.Drop(&v.entry) {
						t.Fatal("a value that waits is dropped once")
					}
					delete(waiting, v)
				}
			},
			"pop": func(t *rapid.T) {
				v, _ := q.Pop()
				if _, waits := waiting[v]; waits != (v != nil) || v == nil && len(waiting) > 0 {
					t.Fatalf("popped %v of %d that wait", v, len(waiting))
				}
				delete(waiting, v)
				for other := range waiting {
					if patience[other]--; patience[other] < 0 {
						t.Fatal("a value waits for longer than its turn")
					}
				}
			},
			"": func(t *rapid.T) {
				if q.Len() != len(waiting) {
					t.Fatalf("%d wait, counted as %d", len(waiting), q.Len())
				}
			},
		})
	})
}
