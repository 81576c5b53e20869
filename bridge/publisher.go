package bridge

import (
	"context"
	"errors"
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
	waiting *batch   // what the next message takes; nil when nothing waits
	left    []string // what calls that were given up have left, for a worker to announce in between
	room    int      // of a message's ids; zero for maxNotificationBytes
	busy    bool     // a call or a worker is publishing
	seq     uint64   // number of the last message given to the bus
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
	ids    []string // that are not acknowledged yet, each once
	part   int      // how many of them are being announced
	batch  *batch   // that carries those
	err    error    // the outcome
}

// announceAll publishes changes, in as many parts as there are messages: each has its
// own time, and between two parts others of the type have their turn.
func announceAll(ctx context.Context, changes []change, timeout time.Duration) {
	for i := range changes {
		changes[i].ids = unique(changes[i].ids)
	}
	for {
		left := 0
		var last *change
		for i := range changes {
			c := &changes[i]
			c.part = 0
			if c.err == nil && len(c.ids) > 0 {
				c.part = fitting(c.ids, c.entity.publish.roomy())
				last = c
				left++
			}
		}
		if left == 0 {
			return
		}
		if left > 1 || !last.alone(ctx, timeout) {
			together(ctx, changes, timeout)
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

// alone publishes the change's part from here, in messages of its own, no longer than
// ctx and the time allow. It returns false, having done nothing, where others of the
// type are being published, or where the bus might keep the caller for longer.
func (c *change) alone(ctx context.Context, timeout time.Duration) bool {
	p := c.entity.publish
	if p.bridge.boundless || !p.begin() {
		return false
	}
	defer p.end() //nolint:contextcheck // what others announce has its own time
	bounded := deadline.After(ctx, timeout)
	defer bounded.Cancel()
	left, err := p.send(bounded, c.ids[:c.part]) //nolint:contextcheck // bounded ends with ctx
	if err != nil && bounded.Err() != nil {
		err = fmt.Errorf("%w: %w", shared.ErrUnavailable, err)
	}
	c.came(ctx, err, left)
	return true
}

// together publishes the parts of changes with what others announce, and returns when the
// messages that carry them were acknowledged or have failed, or when ctx or the time
// is up.
func together(ctx context.Context, changes []change, timeout time.Duration) {
	timer := time.NewTimer(timeout) // a context of its own would cost more than all the rest
	defer timer.Stop()
	for i := range changes {
		c := &changes[i]
		if c.part > 0 {
			c.batch, c.err = c.entity.publish.add(c.ids[:c.part])
		}
	}
	for i := range changes {
		c := &changes[i]
		if c.part == 0 {
			continue
		}
		var left remainder
		err := c.err
		if err == nil {
			err = c.batch.wait(ctx, timer)
		}
		if err != nil {
			left.count = c.part // or fewer: the message may get through
			left.kept = c.part
		}
		c.came(ctx, err, left)
	}
}

// came takes what came of the change's part. Where it failed, what is left of the change
// is announced no more, but for what a worker takes over from a call that was given up.
func (c *change) came(ctx context.Context, err error, left remainder) {
	p := c.entity.publish
	rest := c.ids[c.part:]
	c.ids = c.ids[c.part-left.count:] // the last of the part failed
	if c.err = err; err == nil {
		return
	}
	p.changedHere(rest)
	if ctx.Err() != nil {
		p.leave(left.begun, c.ids[left.kept:])
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
	more := p.waiting != nil || len(p.left) > 0
	p.busy = more
	p.mu.Unlock()
	if more && !b.start(&b.announcing, p.work) {
		p.work() // the Bridge is closing, and waits for this
	}
}

// leave has a worker announce what a call has left that was given up, which says
// nothing of the bus. What was begun keeps its number: if it did not get through, all
// nodes would take it for lost, and look at everything again.
func (p *publisher) leave(begun notification, ids []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || !p.workLocked() {
		return
	}
	if begun.Seq > 0 {
		p.expectLocked()
		p.waiting.again = begun // one at most: from now on a worker publishes
	}
	p.left = append(p.left, ids[:min(len(ids), maxLeft-min(len(p.left), maxLeft))]...)
}

// maxLeft bounds what is kept of calls that were given up. What is more is not announced,
// as their callers were told.
const maxLeft = 1 << 20

// workLocked sees to it that a worker runs, or will when the call that publishes ends. It
// returns false where the Bridge is closing.
func (p *publisher) workLocked() bool {
	if !p.busy {
		p.busy = p.bridge.start(&p.bridge.announcing, p.work)
	}
	return p.busy
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
	if !p.workLocked() {
		return nil, shared.ErrClosed
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

// next takes the waiting batch, and a message of what was left by calls that were given up.
// Without either the worker that asked counts as ended.
func (p *publisher) next() (b *batch, left []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		p.left = nil
	}
	b, p.waiting = p.waiting, nil
	n := fitting(p.left, p.roomyLocked())
	left, p.left = p.left[:n], p.left[n:]
	p.busy = b != nil || n > 0
	return b, left
}

func (p *publisher) work() {
	for {
		b, left := p.next()
		switch {
		case b != nil:
			b.err = p.sendInTime(b)
			close(b.done)
			runtime.Gosched() // those who were told and go on at once are in the next message, not in the one after it
		case len(left) == 0:
			return
		}
		if len(left) > 0 && p.sendInTime(&batch{ids: left}) != nil {
			p.giveUpLeft()
		}
	}
}

// giveUpLeft lets go of what nobody waits for.
func (p *publisher) giveUpLeft() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = nil
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
	count int          // of the last ids, those that were not acknowledged
	kept  int          // and of those, the first that are announced by somebody
}

// send publishes the ids in as few messages as their size allows.
func (p *publisher) send(ctx context.Context, ids []string) (left remainder, err error) {
	for rest := ids; len(rest) > 0; {
		note, n, err := p.sendFirst(ctx, rest)
		if err != nil {
			p.changedHere(ids)
			return remainder{begun: note, count: len(rest), kept: n}, err
		}
		rest = rest[n:]
	}
	return remainder{}, nil
}

// sendFirst publishes as many of the ids as go into one message. Where that is too large
// for the broker, it is halved, with the number that nobody has heard.
func (p *publisher) sendFirst(ctx context.Context, ids []string) (note notification, n int, err error) {
	n = fitting(ids, p.roomy())
	note = p.number(notificationOf(p.name, ids[:n]))
	for err = p.transmit(ctx, note); n > 1 && errors.Is(err, ErrTooLarge); err = p.transmit(ctx, note) {
		n /= 2
		p.shrink(sizeOf(ids[:n]))
		smaller := notificationOf(p.name, ids[:n])
		smaller.Seq, smaller.From = note.Seq, note.From
		note = smaller
	}
	return note, n, err
}

// roomy returns how much room the ids of one message have.
func (p *publisher) roomy() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.roomyLocked()
}

func (p *publisher) roomyLocked() int {
	if p.room == 0 {
		return maxNotificationBytes
	}
	return p.room
}

// shrink has further messages be no larger: a broker that refuses one for its size hangs
// up as well.
func (p *publisher) shrink(room int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.room = min(room, p.roomyLocked())
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
