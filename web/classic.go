package web

import (
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/internal/websocket"
)

// SetupMuxBridge makes m serve clients at DefaultPath. builder connects each client: it is a
// Bridge's ClientBuilder, or a function like it. passThrough optionally handles messages that
// name no action. This is the classic way in. The Handler is returned for its Close. Like m's
// own Handle, SetupMuxBridge panics if the path is taken.
func SetupMuxBridge[M Mux](m M, builder shared.ByteSecretHandlingRemoteProxy, passThrough ...shared.SecretByteHandler) *Handler {
	var c Config
	if len(passThrough) > 0 {
		c.PassThrough = passThrough[0]
	}
	h, err := newHandler(c, func(s *session) client { return newFunctionClient(s, builder) })
	if err == nil {
		err = Mount(m, DefaultPath, h)
	}
	if err != nil {
		panic(err) // the path is taken, which is a mistake of the program
	}
	return h
}

// functionClient is the engine's end of a session, made of functions.
type functionClient struct {
	sub, unSub shared.EntityKeyHandler
	dc         chan bool
	closing    sync.Once
}

var _ client = (*functionClient)(nil)

// maxRows bounds the rows that wait for a client of functions: they have no key by which a
// newer row could replace an older one. Beyond it the goroutine that sends them waits.
const maxRows = 4

func newFunctionClient(s *session, builder shared.ByteSecretHandlingRemoteProxy) client {
	c := &functionClient{}
	toWS := func(row []byte) { _ = s.out.Send(websocket.AppendText(nil, row), maxRows) }
	c.sub, c.unSub, c.dc = builder(toWS, s.getSecret)
	return c
}

func (c *functionClient) Subscribe(key shared.EntityKey, _ bridge.SubscribeOptions) error {
	if err := key.Validate(); err != nil {
		return err
	}
	c.sub(key)
	return nil
}

func (c *functionClient) Unsubscribe(key shared.EntityKey) { c.unSub(key) }

// Keys returns none: without a Config there is no Authorize to be asked of them.
func (c *functionClient) Keys() []shared.EntityKey { return nil }

// Has returns false, and Len zero: functions have no limit.
func (c *functionClient) Has(shared.EntityKey) bool { return false }

// Len implements client.
func (c *functionClient) Len() int { return 0 }

// SetSecret does nothing: the builder has a function that returns the secret.
func (c *functionClient) SetSecret(string) {}

// Close says once that the client is gone. An application's own builder may not be listening,
// so Close does not wait for long. It does not close the channel, which is the builder's.
func (c *functionClient) Close() {
	c.closing.Do(func() {
		defer func() { _ = recover() }() // the builder has closed the channel: it knows
		select {
		case c.dc <- true:
		case <-time.After(closeWait):
		}
	})
}
