// Package isolate finds out which items fail, of several that failed when they were
// tried together.
package isolate

import (
	"context"
	"math/bits"
	"slices"
	"time"
)

// ways is the number of parts into which a failing part is split. Four parts at each of
// five levels find one of a thousand items with as many calls as two at each of ten, and
// try the items 1.2 times on the average, where two try them 1.5 times.
const ways = 4

// Each finds the items that fail, among items that failed together. It calls try with parts
// of them, and splits a part that fails, until each item was in a part that worked, or has
// failed by itself. try notes the outcome of its part, and returns whether the part worked.
//
// Each gives up after half of the time that ctx has left. If nothing works at all, it gives
// up after a number of failures that grows with the logarithm of the number of items. Some
// items were then tried only together with others.
func Each[T any](ctx context.Context, items []T, try func(part []T) (worked bool)) {
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
		// The largest part may hold the most items that work. One of the smallest parts has
		// every other turn: it is the least likely to hold an item that fails.
		next := 0
		if n%2 == 1 {
			next = len(parts) - 1
		}
		part := parts[next]
		parts = slices.Delete(parts, next, next+1)
		if try(part) {
			left = 2 * len(items) // more than splitting can use up
			continue
		}
		left--
		if len(part) > 1 {
			parts = split(parts, part)
		}
	}
}

// split adds the parts of a part to parts, which are sorted from the largest down.
func split[T any](parts [][]T, part []T) [][]T {
	n := min(ways, len(part))
	for i := range n {
		p := part[i*len(part)/n : (i+1)*len(part)/n]
		at, _ := slices.BinarySearchFunc(parts, len(p), func(other []T, size int) int { return size - len(other) })
		parts = slices.Insert(parts, at, p)
	}
	return parts
}
