package faults

import (
	"flag"
	"hash/fnv"
	"math/rand/v2"
	"testing"
	"time"
)

var (
	full    = flag.Bool("faults.full", false, "run the faults at their full size")
	seedArg = flag.Uint64("faults.seed", 0, "where the random choices come from; 0 takes a new one")
)

// theSeed is what all random choices of this run come from.
func theSeed() uint64 {
	if *seedArg == 0 {
		*seedArg = uint64(time.Now().UnixNano())%1_000_000_000 + 1
	}
	return *seedArg
}

// randomFor returns a test's own source of random numbers: the same for the same
// seed, whichever other tests run. Give each goroutine one of its own by fork.
func randomFor(t testing.TB) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(t.Name()))
	t.Cleanup(func() {
		if t.Failed() {
			size := ""
			if *full {
				size = " -faults.full"
			}
			t.Logf("the seed is %d; to repeat this, in folder test: go test -count 1 -race -run '^%s$' -v ./faults%s -faults.seed=%d",
				theSeed(), t.Name(), size, theSeed())
		}
	})
	return rand.New(rand.NewPCG(theSeed(), h.Sum64()))
}

func fork(r *rand.Rand) *rand.Rand { return rand.New(rand.NewPCG(r.Uint64(), r.Uint64())) }

// sized is what a test uses of something: a little by default, much in full.
func sized[T any](little, much T) T {
	if *full {
		return much
	}
	return little
}

// onlyFull leaves out a test that takes long, where not everything is asked for.
func onlyFull(t testing.TB) {
	t.Helper()
	if !*full {
		t.Skip("runs with -faults.full only: make faults")
	}
}
