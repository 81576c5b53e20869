// Package wait waits for goroutines, within limits.
package wait

import (
	"context"
	"sync"
)

// For waits until the goroutines of wg have ended, and returns nil, or until ctx
// ends, and returns its error. In the latter case a goroutine goes on waiting
// until they have: it ends with the last of them.
func For(ctx context.Context, wg *sync.WaitGroup) error {
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
