package sparing_test

import (
	"slices"
	"testing"

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
