//go:build !race

package badinput

// slowdown is how much more of the processor the node may use because of how the
// test was built.
const slowdown = 1
