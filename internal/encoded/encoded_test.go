package encoded_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/entity-sync/entity-sync/internal/encoded"
)

type wire struct{ name string }

func TestEachEncoderIsAskedOnce(t *testing.T) {
	t.Parallel()
	var c encoded.Cache[*wire]
	var asked atomic.Int64
	one, other := &wire{"one"}, &wire{"one"}
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			for _, by := range []*wire{one, other} {
				got := c.Get(by, func() []byte {
					asked.Add(1)
					return []byte(by.name)
				})
				if string(got) != by.name {
					t.Errorf("got %q", got)
				}
			}
		})
	}
	readers.Wait()
	if n := asked.Load(); n != 2 {
		t.Errorf("two encoders were asked %d times", n)
	}
}

func TestWhatIsThereCostsNoMemory(t *testing.T) {
	var c encoded.Cache[*wire]
	by := &wire{"one"}
	get := func() { c.Get(by, func() []byte { return []byte(by.name) }) }
	get()
	if n := testing.AllocsPerRun(100, get); n != 0 {
		t.Errorf("reading it takes %v allocations", n)
	}
}
