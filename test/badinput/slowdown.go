//go:build !race

package badinput

// slowdown is how much longer everything may take because of how the test was built.
const slowdown = 1
