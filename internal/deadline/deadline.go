// Package deadline provides contexts with a deadline for work that seldom waits. Such a
// context starts no timer, and registers with no parent, until its Done is called.
package deadline

import (
	"context"
	"sync"
	"time"
)

// Context is a context that ends with its parent, at its deadline, or with Cancel.
type Context struct {
	parent context.Context
	end    time.Time // its own; the parent's may be sooner

	mu       sync.Mutex
	awaited  context.Context // made when it is first needed; it ends as this Context does
	cancel   context.CancelFunc
	canceled bool
}

var _ context.Context = (*Context)(nil)

// After returns a Context whose deadline is d from now, or the parent's if that is sooner.
// Call Cancel once the work has ended.
func After(parent context.Context, d time.Duration) *Context {
	return &Context{parent: parent, end: time.Now().Add(d)}
}

// Cancel ends the Context. It may be called again.
func (c *Context) Cancel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.canceled = true
	if c.awaited != nil {
		c.cancel()
	}
}

// Deadline implements context.Context.
func (c *Context) Deadline() (time.Time, bool) {
	if sooner, ok := c.parent.Deadline(); ok && sooner.Before(c.end) {
		return sooner, true
	}
	return c.end, true
}

// Done implements context.Context.
func (c *Context) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.awaitLocked().Done()
}

// Err implements context.Context.
func (c *Context) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.awaited == nil && !c.canceled && c.parent.Err() == nil && time.Now().Before(c.end) {
		return nil
	}
	return c.awaitLocked().Err() // awaited keeps the error, so that it stays the same
}

// Value implements context.Context. Package context looks up a value of its own to find what
// ends a context. Once awaited exists, awaited ends this one, and so must answer.
func (c *Context) Value(key any) any {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.awaited != nil {
		return c.awaited.Value(key)
	}
	return c.parent.Value(key)
}

func (c *Context) awaitLocked() context.Context {
	if c.awaited == nil {
		c.awaited, c.cancel = context.WithDeadline(c.parent, c.end)
		if c.canceled {
			c.cancel()
		}
	}
	return c.awaited
}
