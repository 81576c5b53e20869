package conflate

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestQueueAgainstModel drives a queue and a plain model of it with the same
// random calls: newest value per slot, order of first fullness, nothing lost.
func TestQueueAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const slots = 5
		var (
			q     Queue[int]
			s     [slots]Slot[int]
			order []int // slots in the order they became full
			value = map[int]int{}
			next  int
		)
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				i := rapid.IntRange(0, slots-1).Draw(t, "slot")
				next++
				if _, full := value[i]; !full {
					order = append(order, i)
				}
				value[i] = next
				q.Put(&s[i], next)
			},
			"drop": func(t *rapid.T) {
				i := rapid.IntRange(0, slots-1).Draw(t, "slot")
				_, full := value[i]
				if got := q.Drop(&s[i]); got != full {
					t.Fatalf("Drop(%d) = %v, want %v", i, got, full)
				}
				delete(value, i)
				order = slices.DeleteFunc(order, func(o int) bool { return o == i })
			},
			"pop": func(t *rapid.T) {
				first, _ := q.Peek()
				slot, got, ok := q.Pop()
				if first != got {
					t.Fatalf("Peek() = %d, and Pop() = %d", first, got)
				}
				if len(order) == 0 {
					if ok || slot != nil {
						t.Fatalf("Pop() = %d of an empty queue", got)
					}
					return
				}
				if want := value[order[0]]; !ok || got != want || slot != &s[order[0]] {
					t.Fatalf("Pop() = %d, %v, want %d of slot %d", got, ok, want, order[0])
				}
				delete(value, order[0])
				order = order[1:]
			},
			"": func(t *rapid.T) {
				if q.Len() != len(value) {
					t.Fatalf("Len() = %d, want %d", q.Len(), len(value))
				}
			},
		})
	})
}

func TestPutAndPopAllocateNothing(t *testing.T) {
	var q Queue[*int]
	var s Slot[*int]
	v := new(int)
	if n := testing.AllocsPerRun(100, func() { q.Put(&s, v); q.Put(&s, v); q.Pop() }); n != 0 {
		t.Errorf("%v allocations per put and pop, want 0", n)
	}
}
