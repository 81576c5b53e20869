// Package halve tells apart what fails when it is tried together.
package halve

import (
	"context"
	"math/bits"
	"slices"
	"time"
)

// Apart is for items that failed together. It calls try with parts of them, halving
// those that fail down to one, until each item was in a part that worked or failed by
// itself. try notes what came of its part, and returns whether that worked.
//
// Apart gives up, so that some items were only tried with others, when half of the time
// is over that ctx has left, and where nothing at all works: after as many failures as
// lead twice from all to one.
func Apart[T any](ctx context.Context, items []T, try func(part []T) (worked bool)) {
	end, bounded := ctx.Deadline()
	if bounded {
		now := time.Now()
		end = now.Add(end.Sub(now) / 2)
	}
	parts := split(nil, items)
	left := 2 * bits.Len(uint(len(items))) // failures before the first success
	for n := 0; len(parts) > 0 && left > 0 && ctx.Err() == nil; n++ {
		if bounded && !time.Now().Before(end) {
			return
		}
		// The largest part holds the most of what may work. One of the smallest is among
		// them in turn, which few that fail can be in.
		next := 0
		if n%2 == 1 {
			next = len(parts) - 1
		}
		part := parts[next]
		parts = slices.Delete(parts, next, next+1)
		if try(part) {
			left = 2 * len(items) // which halving never needs
			continue
		}
		left--
		if len(part) > 1 {
			parts = split(parts, part)
		}
	}
}

// split adds the halves of part to parts, of which the largest is the first.
func split[T any](parts [][]T, part []T) [][]T {
	half := (len(part) + 1) / 2
	for _, p := range [][]T{part[:half], part[half:]} {
		if len(p) == 0 {
			continue
		}
		at, _ := slices.BinarySearchFunc(parts, len(p), func(other []T, size int) int { return size - len(other) })
		parts = slices.Insert(parts, at, p)
	}
	return parts
}
