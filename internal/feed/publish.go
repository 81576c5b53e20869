package feed

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/entity-sync/entity-sync/shared"
)

// Publication is one Feed's part of one call of Publish.
type Publication struct {
	Feed *Feed
	IDs  []string // once Publish has returned, those that were not acknowledged, each once
	Err  error    // why they were not

	part  int    // how many of the IDs, the first ones, are being published
	batch *batch // the batch that has that part
}

// Publish hands ids to the nodes that listen, and to this node at once. When no Publication
// has an error, each of those nodes hears the ids, or that it may have missed some.
//
// Publish waits for the bus no longer than ctx allows, and gives up once the bus has taken no
// message on a Feed, of this call or another, for Config.PublishTimeout. If ctx ends the call,
// its IDs are published all the same, if they can be. It is safe to call Publish again, with
// the IDs that are left or with all.
func Publish(ctx context.Context, publications []Publication) {
	for i := range publications {
		p := &publications[i]
		p.IDs = unique(p.IDs)
		p.Feed.changedHere(p.IDs)
	}
	// The ids go out in parts, one for each message: each part has its own time, and between
	// two parts other calls on the Feed have their turn.
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

// changedHere passes ids to this node's own listener, which needs neither the bus nor a round
// trip to it.
func (f *Feed) changedHere(ids []string) {
	c := Change{Published: time.Now()}
	for _, c.ID = range ids {
		f.changed(c)
	}
}

// inline publishes the part from the caller's goroutine, in messages of its own, no longer
// than ctx and their time allow. It does nothing and returns false if another goroutine
// publishes on the Feed, or if the bus might block for longer than ctx allows.
func (c *Publication) inline(ctx context.Context) bool {
	p := &c.Feed.publish
	if c.Feed.node.blocking || !p.begin() {
		return false
	}
	defer p.end() //nolint:contextcheck // the messages of other calls have their own time
	part, went := c.IDs[:c.part], 0
	inFlight, n, err := p.send(ctx, part, &went)
	c.settle(ctx, err, unacknowledged{inFlight: inFlight, ids: part[went:], kept: n})
	return true
}

// batched publishes the parts in batches with the ids of other calls. It returns when the
// batches were acknowledged or have failed, when ctx ends, or when the bus has taken no
// message for Config.PublishTimeout.
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

// await waits for the part's batch. It returns the part's ids that were not acknowledged when
// the batch was done or the wait was over, and why. The wait begins anew with each message
// that the bus takes, of any call: on a bus that works, many may go before this call's own.
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
		return nil, nil // only ids of other calls have failed
	}
	return left, err
}

// unacknowledged is the rest of a part that failed.
type unacknowledged struct {
	inFlight message  // the message that failed, if the call itself has published it
	ids      []string // those that were not acknowledged
	kept     int      // how many of them, the first ones, are in inFlight or in a batch
}

// settle takes the outcome of the part. If the part has failed, the rest of the Publication
// is not published, unless ctx has ended: then a worker takes it over.
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
