//go:build !race

package badinput

// slowdown is how much longer the node may take than it should, because of how the
// test was built.
const slowdown = 1
