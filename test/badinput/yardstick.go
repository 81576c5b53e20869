package badinput

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

// usual is what a yardstick is on a machine and in a build that are as fast as the
// bound of a frame's time supposes.
const usual = 200 * time.Microsecond

// yardstick is how long it takes to look through the longest message that a client
// may send. It tells how fast the machine is just now, and what the race detector
// costs.
type yardstick time.Duration

// slowdown is how many times slower than usual everything is, at least once.
func (y yardstick) slowdown() float64 {
	return max(1, float64(y)/float64(usual))
}

// yardstick has the node take it: it is the same build, on the same processors.
func (n *node) yardstick(t testing.TB) yardstick {
	t.Helper()
	y, err := ask[yardstick](n, "yardstick", struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	return y
}

// takeYardstick returns the least of a few times, which is of one that nothing
// interrupted. It is on the clock, because a processor's own time is counted in ticks
// that are longer.
func takeYardstick(context.Context, struct{}) (yardstick, error) {
	message := longest()
	least := yardstick(math.MaxInt64)
	for range 20 {
		begin := time.Now()
		if !json.Valid(message) {
			return 0, fmt.Errorf("%.100s… is no message", message)
		}
		least = min(least, yardstick(time.Since(begin)))
	}
	return least, nil
}

// longest is a list of keys of the greatest length.
func longest() []byte {
	const begin, end = `{"action":"subscribe","body":[` + key, `]}`
	n := (limit - len(begin) - len(end)) / len(","+key)
	return []byte(begin + strings.Repeat(","+key, n) + end)
}
