package feed

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/entity-sync/entity-sync/shared"
)

// Publication is what one call publishes on one Feed.
type Publication struct {
	Feed *Feed
	IDs  []string // once Publish has returned, those that were not acknowledged, each once
	Err  error    // why, where there are any

	part  int    // how many of the IDs, the first ones, are being published
	batch *batch // that carries those
}

// Publish hands ids to the nodes that listen, to this one at once. When no Publication has
// an error, each of those hears them, or that it may have missed some.
//
// It waits for the bus no longer than ctx allows, and gives up once the bus has taken no
// message on a Feed, of this call or another, for Config.PublishTimeout. The IDs of a call
// that ctx ended are published all the same, if they can be. It is safe to call again,
// with what is left or with all.
func Publish(ctx context.Context, publications []Publication) {
	for i := range publications {
		p := &publications[i]
		p.IDs = unique(p.IDs)
		p.Feed.changedHere(p.IDs)
	}
	// In as many parts as there are messages: each has its own time, and between two parts
	// others of the Feed have their turn.
	for {
		left := 0
		var last *Publication
		for i := range publications {
			p := &publications[i]
			p.part = 0
			if p.Err == nil && len(p.IDs) > 0 {
				p.part = p.Feed.publish.fit(p.IDs)
				last = p
				left++
			}
		}
		if left == 0 {
			return
		}
		if left > 1 || !last.inline(ctx) {
			batched(ctx, publications)
		}
	}
}

// unique returns each of the ids once.
func unique(ids []string) []string {
	if len(ids) < 2 {
		return ids
	}
	var b batch
	b.add(ids)
	return b.ids
}

// changedHere has this node's own listener hear ids: it needs no bus, and no broker's
// round trip.
func (f *Feed) changedHere(ids []string) {
	c := Change{Published: time.Now()}
	for _, c.ID = range ids {
		f.changed(c)
	}
}

// inline publishes the part from here, in messages of its own, no longer than ctx and
// their time allow. It returns false, having done nothing, where others of the Feed are
// being published, or where the bus might keep the caller for longer.
func (c *Publication) inline(ctx context.Context) bool {
	p := &c.Feed.publish
	if c.Feed.node.blocking || !p.begin() {
		return false
	}
	defer p.end() //nolint:contextcheck // what others publish has its own time
	part, went := c.IDs[:c.part], 0
	inFlight, n, err := p.send(ctx, part, &went)
	c.settle(ctx, err, unacknowledged{inFlight: inFlight, ids: part[went:], kept: n})
	return true
}

// batched publishes the parts with what others publish, and returns when the messages that
// carry them were acknowledged or have failed, or when ctx is up, or the bus has taken none
// for as long as one has.
func batched(ctx context.Context, publications []Publication) {
	begin := time.Now()
	timer := time.NewTimer(0) // a context of its own would cost more than all the rest
	defer timer.Stop()
	for i := range publications {
		c := &publications[i]
		if c.part > 0 {
			c.batch, c.Err = c.Feed.publish.add(c.IDs[:c.part])
		}
	}
	for i := range publications {
		c := &publications[i]
		if c.part == 0 {
			continue
		}
		left, err := c.IDs[:c.part], c.Err
		if err == nil {
			left, err = c.await(ctx, timer, begin)
		}
		c.settle(ctx, err, unacknowledged{ids: left, kept: len(left)})
	}
}

// await returns what of the part was not acknowledged when its batch was done or the wait
// was up, and why. Each message that goes, whosever it is, begins the wait anew: on a bus
// that works, a call may have many of them before its own.
func (c *Publication) await(ctx context.Context, timer *time.Timer, begin time.Time) (left []string, err error) {
	p := &c.Feed.publish
	for rest := p.patience(begin); err == nil; {
		timer.Reset(rest)
		select {
		case <-c.batch.done:
			if c.batch.err == nil {
				return nil, nil
			}
			err = c.batch.err
		case <-ctx.Done():
			err = fmt.Errorf("%w: %w", shared.ErrUnavailable, ctx.Err())
		case <-timer.C:
			if rest = p.patience(begin); rest <= 0 {
				err = fmt.Errorf("%w: %w", shared.ErrUnavailable, context.DeadlineExceeded)
			}
		}
	}
	if left = p.leftOf(c.batch, c.IDs[:c.part]); len(left) == 0 {
		return nil, nil // only what others publish has failed
	}
	return left, err
}

// unacknowledged is what is left of a part that failed.
type unacknowledged struct {
	inFlight message  // the message that failed, where the call has published it
	ids      []string // those that were not acknowledged
	kept     int      // and of those, the first that somebody publishes
}

// settle takes the outcome of the part. Where it failed, what is left of the Publication is
// published no more, but for what a worker takes over from a call that was given up.
func (c *Publication) settle(ctx context.Context, err error, left unacknowledged) {
	rest := c.IDs[c.part:]
	if c.Err = err; err == nil {
		c.IDs = rest
		return
	}
	c.IDs = slices.Concat(left.ids, rest)
	if ctx.Err() != nil {
		c.Feed.publish.leave(left.inFlight, c.IDs[left.kept:])
	}
}
