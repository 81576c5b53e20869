package shared

import (
	"bytes"
	"context"
	"sync"
)

// Collect makes a Fetcher of a classic fetch handler: what the handler passes
// on before it returns are the rows.
func Collect(handler EntityKeySecretByteHandler) Fetcher {
	return func(_ context.Context, key EntityKey, secret string) ([][]byte, error) {
		c := &collector{}
		defer c.stop() // also where the handler panics
		handler(key, secret, c.add)
		return c.stop(), nil
	}
}

// collector gathers rows until it is stopped. The handler may have kept add and
// call it later from a goroutine of its own; that row is nobody's.
type collector struct {
	mu      sync.Mutex
	rows    [][]byte
	stopped bool
}

func (c *collector) add(row []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopped {
		c.rows = append(c.rows, bytes.Clone(row)) // the handler may reuse its buffer
	}
}

func (c *collector) stop() (rows [][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	return c.rows
}
