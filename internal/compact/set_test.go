package compact

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

type number struct{ n int }

func (n *number) Key() int { return n.n }

// A Set is as a map would be.
func TestSetAgainstMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Set[int, *number]
		model := map[int]*number{}
		key := rapid.IntRange(0, 40)
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				v := &number{key.Draw(t, "key")}
				s.Put(v)
				model[v.n] = v
			},
			"delete": func(t *rapid.T) {
				k := key.Draw(t, "key")
				s.Delete(k)
				delete(model, k)
			},
			"": func(t *rapid.T) {
				if s.Len() != len(model) {
					t.Fatalf("Len() = %d, want %d", s.Len(), len(model))
				}
				for k := range 41 {
					if got := s.Get(k); got != model[k] {
						t.Fatalf("Get(%d) = %v, want %v", k, got, model[k])
					}
				}
				all := map[int]*number{}
				for v := range s.All() {
					if all[v.n] != nil {
						t.Fatalf("%d is there twice", v.n)
					}
					all[v.n] = v
				}
				if !maps.Equal(all, model) {
					t.Fatalf("All() = %v, want %v", slices.Collect(maps.Keys(all)), slices.Collect(maps.Keys(model)))
				}
			},
		})
	})
}

func TestAllCanBeLeft(t *testing.T) {
	var s Set[int, *number]
	for n := range 100 {
		s.Put(&number{n})
	}
	seen := 0
	for range s.All() {
		if seen++; seen == 3 {
			break
		}
	}
	if seen != 3 {
		t.Errorf("saw %d members of those that were asked for", seen)
	}
}
