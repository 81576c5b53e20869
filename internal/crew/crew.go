// Package crew runs short work in goroutines that are used again: to start one for
// each piece, and to grow its stack, may take longer than the work.
package crew

import (
	"context"
	"sync"

	"github.com/entity-sync/entity-sync/internal/wait"
)

// Crew is goroutines. All that is given to it runs at once, however much it is; up to
// resting goroutines stay for what comes next. The zero value is ready for use.
type Crew struct {
	work sync.WaitGroup

	mu     sync.Mutex
	idle   []chan func() // one for each goroutine that rests, the last to rest at the end
	closed bool
}

// resting is how many goroutines stay. Where more are needed at once their work takes
// its time, so that what it takes to start them does not matter.
const resting = 4

// Go has f run in a goroutine. It must not be called once Close was.
func (c *Crew) Go(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := len(c.idle) - 1
	if last < 0 {
		c.work.Go(func() { c.run(f) })
		return
	}
	c.idle[last] <- f // there is room for one
	c.idle = c.idle[:last]
}

func (c *Crew) run(f func()) {
	next := make(chan func(), 1)
	for f != nil {
		f()
		f = nil // which may hold much
		if c.rest(next) {
			f = <-next
		}
	}
}

// rest has next given something to run, or closed, and returns false where nobody
// will.
func (c *Crew) rest(next chan func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.idle) == resting {
		return false
	}
	c.idle = append(c.idle, next)
	return true
}

// Close returns when all that was given to the crew has ended, and its goroutines
// have, or with ctx's error when that ends first. It may be called again.
func (c *Crew) Close(ctx context.Context) error {
	c.mu.Lock()
	c.closed = true
	for _, next := range c.idle {
		close(next)
	}
	c.idle = nil
	c.mu.Unlock()
	return wait.For(ctx, &c.work)
}
