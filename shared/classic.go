package shared

import (
	"bytes"
	"context"
	"sync"
)

// The function types of the classic interface, under the names its users know.
type (
	// ByteHandler takes one row, or one message from the bus.
	ByteHandler func([]byte)

	// EntityHandler builds the function that publishes to one entity type's queue.
	EntityHandler func(entity EntityType) ByteHandler

	// EntityKeyHandler takes a key: to subscribe to it or to leave it.
	EntityKeyHandler func(entityKey EntityKey)

	// SecretByteHandler takes a message of the application's own, with the secret of the
	// client that sent it.
	SecretByteHandler func(secret string, b []byte)

	// EntityByteHandler listens to one entity type's queue and calls handler for
	// every message.
	EntityByteHandler func(entity EntityType, handler ByteHandler)

	// AddressableEntityHandler builds an EntityHandler for the queue at addr.
	AddressableEntityHandler func(addr string) EntityHandler

	// AddressableEntityByteHandler builds an EntityByteHandler for the queue at addr.
	AddressableEntityByteHandler func(addr string) EntityByteHandler

	// EntityKeySecretByteHandler fetches: it calls handler once for each row of
	// the key that the holder of secret may see, before it returns.
	EntityKeySecretByteHandler func(entityKey EntityKey, secret string, handler ByteHandler)

	// ByteSecretHandlingRemoteProxy connects one client: given where its rows go
	// and how to learn its secret, it returns how to subscribe, how to
	// unsubscribe, and a channel that takes one value when the client is gone.
	ByteSecretHandlingRemoteProxy func(ByteHandler, func() string) (sub EntityKeyHandler, unSub EntityKeyHandler, dc chan bool)
)

// ActionUnSubscribe is ActionUnsubscribe.
const ActionUnSubscribe = ActionUnsubscribe

// GetQueueName returns the bus topic of this type, before any queue prefix.
func (e EntityType) GetQueueName() string {
	return string(e)
}

// Collect makes a Fetcher of a classic fetch handler: the rows are those that the handler
// passes on before it returns.
func Collect(handler EntityKeySecretByteHandler) Fetcher {
	return func(_ context.Context, key EntityKey, secret string) ([][]byte, error) {
		c := &collector{}
		defer c.stop() // also where the handler panics
		handler(key, secret, c.add)
		return c.stop(), nil
	}
}

// collector gathers rows until it is stopped. The handler may have kept add, and call it later
// from a goroutine of its own; such a row is dropped.
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
