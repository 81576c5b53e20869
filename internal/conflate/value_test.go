package conflate_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/entity-sync/entity-sync/internal/conflate"
)

func TestAReaderOfAValueSeesTheNewestAndTheLast(t *testing.T) {
	var v conflate.Value[int]
	if got, changed := v.Newest(); got != 0 || isClosed(changed) {
		t.Errorf("an empty value is %d, changed %v", got, isClosed(changed))
	}
	v.Put(1)
	v.Put(2)
	var seen []int
	for got := range v.All(t.Context()) {
		seen = append(seen, got)
		if got == 2 {
			v.Put(3)
			v.Put(4) // the reader is slow
			v.End()
			v.Put(5)
		}
	}
	if len(seen) != 2 || seen[0] != 2 || seen[1] != 4 {
		t.Errorf("saw %v, want 2 and 4", seen)
	}
	if got, changed := v.Newest(); got != 4 || !isClosed(changed) {
		t.Errorf("an ended value is %d, changed %v", got, isClosed(changed))
	}
}

func TestReadersOfAValueEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var v conflate.Value[int]
		ctx, cancel := context.WithCancel(t.Context())
		var readers sync.WaitGroup
		readers.Go(func() {
			for range v.All(ctx) {
				t.Error("there was no value")
			}
		})
		synctest.Wait()
		cancel()
		readers.Wait()

		v.Put(1)
		for range v.All(ctx) {
			t.Error("yielded after the end of the context")
		}
		_, changed := v.Newest()
		v.Put(1) // equal, and news all the same
		if !isClosed(changed) {
			t.Error("a new value was not noticed")
		}
		for got := range v.All(t.Context()) {
			if got == 1 {
				break
			}
		}
	})
}

// However it is interleaved, each reader's values rise and end with the last.
func TestManyReadersOfAValue(t *testing.T) {
	const last = 10_000
	var v conflate.Value[int]
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			seen := 0
			for got := range v.All(t.Context()) {
				if got <= seen {
					t.Errorf("saw %d after %d", got, seen)
				}
				seen = got
			}
			if seen != last {
				t.Errorf("ended with %d, want %d", seen, last)
			}
		})
	}
	for i := range last {
		v.Put(i + 1)
	}
	v.End()
	readers.Wait()
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
