package client

import (
	"context"
	"fmt"

	"github.com/entity-sync/entity-sync/web/wire"
)

// Send sends the server's application a message of its own: a JSON object that names no
// action. It waits until the message is written. Without a connection it returns ErrOffline:
// nothing is kept for later. Only the application can say that the server has got the message.
func (c *Client) Send(ctx context.Context, message []byte) error {
	if !wire.IsOwn(message) {
		return fmt.Errorf("client: %w: a message is a JSON object without an action", ErrBadRequest)
	}
	if len(message) > c.options.MaxMessageBytes {
		return fmt.Errorf("client: %w: a message has at most %d bytes", ErrBadRequest, c.options.MaxMessageBytes)
	}
	c.mu.Lock()
	s := c.session
	c.mu.Unlock()
	if s == nil {
		return fmt.Errorf("client: %w", ErrOffline)
	}
	o := outgoing{message, make(chan error, 1)}
	select {
	case s.out <- o:
	case <-s.ctx.Done():
		return fmt.Errorf("client: %w", ErrOffline)
	case <-ctx.Done():
		return fmt.Errorf("client: %w", ctx.Err())
	}
	select {
	case err := <-o.done:
		if err != nil {
			return fmt.Errorf("client: writing: %w", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("client: %w", ctx.Err())
	}
}
