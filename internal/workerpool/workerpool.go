// Package workerpool runs short work in goroutines that are used again: to start one for
// each piece, and to grow its stack, may take longer than the work.
package workerpool

import (
	"context"
	"sync"

	"github.com/entity-sync/entity-sync/internal/wait"
)

// Pool runs functions in goroutines. Each function runs at once, however many there are. Up
// to maxIdle goroutines stay for further functions. The zero value is ready for use.
type Pool struct {
	work sync.WaitGroup

	mu      sync.Mutex
	idle    []chan func() // one for each idle goroutine, the last to become idle at the end
	refuses bool          // Go takes nothing more
	closed  bool          // lets its idle goroutines go
}

// maxIdle is how many idle goroutines stay. If more are needed at once, their work takes so
// long that the time to start them does not matter.
const maxIdle = 4

// Go has f run in a goroutine. It returns false, having done nothing, once Refuse or Close
// was called.
func (p *Pool) Go(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuses {
		return false
	}
	last := len(p.idle) - 1
	if last < 0 {
		p.work.Go(func() { p.run(f) })
		return true
	}
	p.idle[last] <- f // the channel has room for one
	p.idle = p.idle[:last]
	return true
}

func (p *Pool) run(f func()) {
	next := make(chan func(), 1)
	for f != nil {
		f()
		f = nil // f may keep much memory alive
		if p.rest(next) {
			f = <-next
		}
	}
}

// rest makes the goroutine idle: next gets a function to run, or is closed. It returns false
// if the goroutine is to end.
func (p *Pool) rest(next chan func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) == maxIdle {
		return false
	}
	p.idle = append(p.idle, next)
	return true
}

// Refuse makes Go refuse further functions.
func (p *Pool) Refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuses = true
}

// Close refuses further functions. It returns once all functions and goroutines have ended,
// or with ctx's error if ctx ends first. It may be called again.
func (p *Pool) Close(ctx context.Context) error {
	p.mu.Lock()
	p.refuses, p.closed = true, true
	for _, next := range p.idle {
		close(next)
	}
	p.idle = nil
	p.mu.Unlock()
	return wait.For(ctx, &p.work)
}
