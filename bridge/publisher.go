package bridge

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/internal/deadline"
	"github.com/entity-sync/entity-sync/shared"
)

// publisher announces one entity type's changes. One message is under way at a
// time: a call that finds none publishes its keys itself, and what piles up
// meanwhile goes out together, each key once, from a worker. So an idle system adds
// no wait, and a storm on one key costs a message for each acknowledgement, not for
// each call.
type publisher struct {
	bridge *Bridge
	name   shared.EntityType
	texts  bool // what is published are a topic's texts, of which none may be late

	mu      sync.Mutex
	waiting *batch // what the next message takes; nil when nothing waits
	busy    bool   // a call or a worker is publishing
	seq     uint64 // number of the last message given to the bus
	closed  bool
}

// batch is the keys that wait to be announced together, and who waits for them.
type batch struct {
	ids   []string
	has   map[string]struct{} // the ids, once there are several
	again notification        // begun by a call that was given up; without a number for none
	done  chan struct{}       // closed when err is the outcome
	err   error
}

// change is the keys of one entity type that one call announces.
type change struct {
	entity *entity
	ids    []string
	batch  *batch // that carries them
	err    error  // the outcome
}

// alone publishes the change from here, in messages of its own, no longer than ctx
// and the time allow. It returns false, having done nothing, where others of the
// type are being published, or where the bus might keep the caller for longer.
func (c *change) alone(ctx context.Context, timeout time.Duration) bool {
	p := c.entity.publish
	if p.bridge.boundless || !p.begin() {
		return false
	}
	defer p.end() //nolint:contextcheck // what others announce has its own time
	bounded := deadline.After(ctx, timeout)
	defer bounded.Cancel()
	var own batch
	own.add(c.ids)
	left, err := p.send(bounded, own.ids) //nolint:contextcheck // bounded ends with ctx
	if c.err = err; err != nil && ctx.Err() != nil {
		p.leave(left)
	}
	if c.err != nil && bounded.Err() != nil {
		c.err = fmt.Errorf("%w: %w", shared.ErrUnavailable, c.err)
	}
	return true
}

// together publishes the changes with what others announce, and returns when the
// messages that carry them were acknowledged or have failed, or when ctx or the time
// is up.
func together(ctx context.Context, changes []change, timeout time.Duration) {
	timer := time.NewTimer(timeout) // a context of its own would cost more than all the rest
	defer timer.Stop()
	for i := range changes {
		c := &changes[i]
		c.batch, c.err = c.entity.publish.add(c.ids)
	}
	for i := range changes {
		if changes[i].err == nil {
			changes[i].err = changes[i].batch.wait(ctx, timer)
		}
	}
}

func (b *batch) wait(ctx context.Context, timer *time.Timer) error {
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", shared.ErrUnavailable, ctx.Err())
	case <-timer.C:
		timer.Reset(0) // for what else is waited for
		return fmt.Errorf("%w: %w", shared.ErrUnavailable, context.DeadlineExceeded)
	}
}

// begin makes the caller the one that publishes, until it calls end. It returns
// false where somebody is already, or the Bridge is closed.
func (p *publisher) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy || !p.bridge.startAnnouncing() {
		return false
	}
	p.busy = true
	return true
}

// end leaves what has piled up to a worker: the caller has its own to do.
func (p *publisher) end() {
	b := p.bridge
	defer b.announcing.Done()
	p.mu.Lock()
	more := p.waiting != nil
	p.busy = more
	p.mu.Unlock()
	if more && !b.start(&b.announcing, p.work) {
		p.work() // the Bridge is closing, and waits for this
	}
}

// leave has a worker announce what a call has left that was given up, which says
// nothing of the bus. What was begun keeps its number: if it did not get through, all
// nodes would take it for lost, and look at everything again.
func (p *publisher) leave(left remainder) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.expectLocked()
	p.waiting.again = left.begun // one at most: from now on a worker publishes
	p.waiting.add(left.ids)
}

// expectLocked sees to it that there is a batch to add to.
func (p *publisher) expectLocked() {
	if p.waiting == nil {
		p.waiting = &batch{done: make(chan struct{})}
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
		b := p.bridge
		if !b.start(&b.announcing, p.work) {
			return nil, shared.ErrClosed
		}
		p.busy = true
	}
	p.expectLocked()
	p.waiting.add(ids)
	return p.waiting, nil
}

func (p *publisher) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
}

func (b *batch) add(ids []string) {
	if len(b.ids) == 0 && len(ids) == 1 {
		b.ids = ids
		return
	}
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
		b.err = p.sendInTime(b)
		close(b.done)
		runtime.Gosched() // those who were told and go on at once are in the next message, not in the one after it
	}
}

func (p *publisher) sendInTime(b *batch) error {
	ctx := deadline.After(p.bridge.ctx, p.bridge.config.PublishTimeout)
	defer ctx.Cancel()
	if b.again.Seq > 0 {
		_ = p.transmit(ctx, b.again) // whom it was for was told of a failure already
	}
	_, err := p.send(ctx, b.ids)
	return err
}

// remainder is what was not acknowledged when send failed.
type remainder struct {
	begun notification // the message that failed
	ids   []string     // what was to follow it
}

// send publishes the ids in as few messages as their size allows.
func (p *publisher) send(ctx context.Context, ids []string) (left remainder, err error) {
	for rest := ids; len(rest) > 0; {
		var note notification
		note, rest = newNotification(p.name, rest)
		note = p.number(note)
		if err := p.transmit(ctx, note); err != nil {
			p.changedHere(ids)
			return remainder{begun: note, ids: rest}, err
		}
	}
	return remainder{}, nil
}

// changedHere has this node's own clients look again: they need no bus.
func (p *publisher) changedHere(ids []string) {
	ent, err := p.bridge.entity(p.name)
	if err != nil {
		return // its registration failed just now
	}
	for _, id := range ids {
		ent.changed(shared.EntityKey{Entity: p.name, ID: id})
	}
}

// number numbers a message. The number is used up even if the message fails: whoever
// misses it will look again, which is what the message was for.
func (p *publisher) number(note notification) notification {
	p.mu.Lock()
	p.seq++
	note.Seq, note.From = p.seq, p.bridge.name
	p.mu.Unlock()
	p.bridge.startBeating()
	return note
}

func (p *publisher) transmit(ctx context.Context, note notification) error {
	body, err := note.encode()
	if err != nil {
		return fmt.Errorf("encoding a notification: %w", err)
	}
	if bus, ok := p.bridge.bus.(Spreader); ok && (p.texts || note.isBeat()) {
		return bus.Spread(ctx, p.name, body)
	}
	return p.bridge.bus.Publish(ctx, p.name, body)
}
