package web

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/entity-sync/entity-sync/web/wire"
)

const (
	// drainEach is by how much each client prolongs the drain, and maxDrain how long the drain
	// takes at most. All clients come back elsewhere, and the clients of a large node must not
	// do so in one moment.
	drainEach = 2 * time.Millisecond
	maxDrain  = 10 * time.Second

	// drainStep is the time between two groups of clients that are sent away.
	drainStep = 10 * time.Millisecond

	// maxRetry is the longest that a client is told to wait before it comes back.
	maxRetry = time.Second
)

// drain sends the sessions away in random order, spread over at most half of the time that ctx
// allows.
func drain(ctx context.Context, sessions []*session) {
	spread := min(time.Duration(len(sessions))*drainEach, maxDrain)
	if end, ok := ctx.Deadline(); ok {
		spread = max(0, min(spread, time.Until(end)/2))
	}
	rand.Shuffle(len(sessions), func(i, j int) { sessions[i], sessions[j] = sessions[j], sessions[i] }) //nolint:gosec // the order is no secret
	group := len(sessions)
	if steps := int(spread / drainStep); steps > 1 {
		group = (len(sessions) + steps - 1) / steps
	}
	for i, s := range sessions {
		if i > 0 && i%group == 0 {
			select {
			case <-time.After(drainStep):
			case <-ctx.Done(): // the rest at once
			}
		}
		s.closeGracefully(wire.CloseRestart, retryHint())
	}
}

// retryHint is the reason of a close frame that asks a client to come back.
func retryHint() string {
	return wire.RetryHint(rand.N(maxRetry)) //nolint:gosec // jitter is no secret
}
