package isolate_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/entity-sync/entity-sync/internal/isolate"
)

func numbers(n int) (s []int) {
	for i := range n {
		s = append(s, i)
	}
	return s
}

// As long as something works, each item is answered by itself or with others that work,
// and no item is tried again after that.
func TestEachItemIsToldApart(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		items := numbers(rapid.IntRange(2, 200).Draw(rt, "items"))
		bad := rapid.SliceOfDistinct(rapid.SampledFrom(items), rapid.ID[int]).Draw(rt, "bad")
		settled, worked, calls := make(map[int]bool), false, 0
		isolate.Each(t.Context(), items, func(part []int) bool {
			calls++
			fails := slices.ContainsFunc(part, func(i int) bool { return slices.Contains(bad, i) })
			worked = worked || !fails
			for _, i := range part {
				if settled[i] {
					rt.Errorf("%d was tried after it was told apart", i)
				}
				settled[i] = !fails || len(part) == 1
			}
			return !fails
		})
		for _, i := range items {
			if worked && !settled[i] {
				rt.Errorf("%d of %d with %v bad was not told apart", i, len(items), bad)
			}
		}
		if len(bad) == 1 && calls > 16 {
			rt.Errorf("one of %d was found with %d calls", len(items), calls)
		}
		if len(bad) == len(items) && calls > 16 {
			rt.Errorf("%d that all fail were tried %d times", len(items), calls)
		}
	})
}

// A part that fails counts half: it does as soon as the item that fails has its turn.
func TestOneThatFailsCostsTheOthersLittle(t *testing.T) {
	const n = 1024
	for bad := range n {
		var tried float64
		isolate.Each(t.Context(), numbers(n), func(part []int) bool {
			if slices.Contains(part, bad) {
				tried += float64(len(part)) / 2
				return false
			}
			tried += float64(len(part))
			return true
		})
		if tried > 1.2*n {
			t.Fatalf("where %d fails, the items were tried %.2f times", bad, tried/n)
		}
	}
}

// Many that fail keep no others from being told apart, whether they are beside one
// another or evenly spread.
func TestManyThatFailAreNoOutage(t *testing.T) {
	for name, isBad := range map[string]func(i int) bool{
		"the first half": func(i int) bool { return i < 500 },
		"the last half":  func(i int) bool { return i >= 500 },
		"every other":    func(i int) bool { return i%2 == 0 },
	} {
		good := 0
		isolate.Each(t.Context(), numbers(1000), func(part []int) bool {
			if slices.ContainsFunc(part, isBad) {
				return false
			}
			good += len(part)
			return true
		})
		want := 0
		for i := range 1000 {
			if !isBad(i) {
				want++
			}
		}
		if good != want {
			t.Errorf("%s: %d were told apart, want %d", name, good, want)
		}
	}
}

func TestHalfOfTheTimeIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start, calls := time.Now(), 0
		isolate.Each(ctx, numbers(1000), func(part []int) bool {
			calls++
			time.Sleep(time.Second)
			return part[0] > 0
		})
		if took := time.Since(start); took != 5*time.Second || calls != 5 {
			t.Errorf("it took %v and %d calls, want 5 s and 5", took, calls)
		}
	})
}
