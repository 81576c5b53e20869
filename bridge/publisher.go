package bridge

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/shared"
)

// publisher announces one entity type's changes. One message is under way at a
// time: the first key goes out at once, and what piles up meanwhile goes out
// together, each key once. So an idle system adds no wait, and a storm on one key
// costs a message for each acknowledgement, not for each call.
type publisher struct {
	entity *entity

	mu      sync.Mutex
	waiting *batch // what the next message takes; nil when nothing waits
	busy    bool   // a worker is publishing
	seq     uint64 // number of the last message given to the bus
	closed  bool
}

// batch is the keys that wait to be announced together, and who waits for them.
type batch struct {
	ids  []string
	has  map[string]struct{} // the ids, once there are several
	done chan struct{}       // closed when err is the outcome
	err  error
}

// change is the keys of one entity type that one call announces.
type change struct {
	entity *entity
	ids    []string
	batch  *batch // that carries them
	err    error  // why none does
}

func (c *change) announce() { c.batch, c.err = c.entity.publish.add(c.ids) }

// wait returns when a message that carries the change was acknowledged or has
// failed, or when ctx or the time is up.
func (c *change) wait(ctx context.Context, timeout *time.Timer) error {
	if c.err != nil {
		return c.err
	}
	select {
	case <-c.batch.done:
		return c.batch.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", shared.ErrUnavailable, ctx.Err())
	case <-timeout.C:
		timeout.Reset(0) // for what else is waited for
		return fmt.Errorf("%w: %w", shared.ErrUnavailable, context.DeadlineExceeded)
	}
}

// add puts the ids into the batch that goes out next.
func (p *publisher) add(ids []string) (*batch, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, shared.ErrClosed // so that what waits already comes to an end
	}
	if !p.busy {
		b := p.entity.bridge
		if !b.start(&b.announcing, p.work) {
			return nil, shared.ErrClosed
		}
		p.busy = true
	}
	if p.waiting == nil {
		p.waiting = &batch{done: make(chan struct{})}
	}
	p.waiting.add(ids)
	return p.waiting, nil
}

func (p *publisher) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
}

func (b *batch) add(ids []string) {
	if b.has == nil && len(b.ids)+len(ids) > 1 {
		b.has = make(map[string]struct{}, len(b.ids)+len(ids))
		for _, id := range b.ids {
			b.has[id] = struct{}{}
		}
	}
	for _, id := range ids {
		if b.has != nil {
			if _, double := b.has[id]; double {
				continue
			}
			b.has[id] = struct{}{}
		}
		b.ids = append(b.ids, id)
	}
}

// next takes the waiting batch. Without one it returns nil, and the worker that
// asked counts as ended.
func (p *publisher) next() *batch {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.waiting
	p.waiting, p.busy = nil, b != nil
	return b
}

func (p *publisher) work() {
	for b := p.next(); b != nil; b = p.next() {
		if b.err = p.send(b.ids); b.err != nil {
			// This node's own clients need no bus.
			for _, id := range b.ids {
				p.entity.changed(shared.EntityKey{Entity: p.entity.name, ID: id})
			}
		}
		close(b.done)
		runtime.Gosched() // those who were told and go on at once are in the next message, not in the one after it
	}
}

// send publishes the ids in as few messages as their size allows.
func (p *publisher) send(ids []string) error {
	ctx, cancel := context.WithTimeout(p.entity.bridge.ctx, p.entity.bridge.config.PublishTimeout)
	defer cancel()
	for len(ids) > 0 {
		var note notification
		note, ids = newNotification(p.entity.name, ids)
		if err := p.sendOne(ctx, note); err != nil {
			return err
		}
	}
	return nil
}

// sendOne publishes one numbered message. A number is used up even if the
// message fails: whoever misses it will look again, which is what the message
// was for.
func (p *publisher) sendOne(ctx context.Context, note notification) error {
	p.mu.Lock()
	p.seq++
	note.Seq, note.From = p.seq, p.entity.bridge.name
	p.mu.Unlock()
	p.entity.bridge.startBeating()
	return p.transmit(ctx, note)
}

func (p *publisher) transmit(ctx context.Context, note notification) error {
	body, err := note.encode()
	if err != nil {
		return fmt.Errorf("encoding a notification: %w", err)
	}
	return p.entity.bridge.bus.Publish(ctx, p.entity.name, body)
}
