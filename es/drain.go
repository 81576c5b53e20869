package es

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// drain is the beginning of a node's end: the node is not ready any more, and goes on serving
// until load balancers have seen that.
type drain struct {
	delay time.Duration
	log   *slog.Logger
	begun atomic.Bool

	once sync.Once
	end  time.Time // written once
}

// wait begins the drain, if no other call has. It returns at the end of the drain, or after
// half of the time that ctx allows: the other half is for the clients and the handlers.
func (d *drain) wait(ctx context.Context) {
	d.once.Do(func() {
		d.end = time.Now().Add(d.delay)
		d.begun.Store(true)
	})
	left := time.Until(d.end)
	if left <= 0 { // there is no delay, or an earlier call has waited for it
		return
	}
	if deadline, ok := ctx.Deadline(); ok {
		if half := max(0, time.Until(deadline)/2); half < left {
			d.log.Warn("DrainDelay is cut short, because Close has too little time for it", slog.Duration("delay", d.delay), slog.Duration("to", half))
			left = half
		}
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
