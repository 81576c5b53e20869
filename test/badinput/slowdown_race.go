//go:build race

package badinput

// slowdown is what the race detector costs.
const slowdown = 5
