package bridge

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/bridge/bus"
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
	room    room
	took    time.Time // when the bus last took a message, or said that it is too large
	busy    bool      // a call or a worker is publishing
	seq     uint64    // number of the last message given to the bus
	closed  bool
}

// batch is the keys that wait to be announced together, and who waits for them.
type batch struct {
	ids   []string
	has   map[string]int // the place of each id, once there are several
	went  int            // how many of the ids were acknowledged, the first ones
	again notification   // begun by a call that was given up; without a number for none
	done  chan struct{}  // closed when err is the outcome
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
func announceAll(ctx context.Context, changes []change) {
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
				c.part = c.entity.publish.fit(c.ids)
				last = c
				left++
			}
		}
		if left == 0 {
			return
		}
		if left > 1 || !last.alone(ctx) {
			together(ctx, changes)
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
// ctx and their time allow. It returns false, having done nothing, where others of the
// type are being published, or where the bus might keep the caller for longer.
func (c *change) alone(ctx context.Context) bool {
	p := c.entity.publish
	if p.bridge.blocking || !p.begin() {
		return false
	}
	defer p.end() //nolint:contextcheck // what others announce has its own time
	part, went := c.ids[:c.part], 0
	begun, n, err := p.send(ctx, part, &went)
	c.came(ctx, err, remainder{begun: begun, ids: part[went:], kept: n})
	return true
}

// together publishes the parts of changes with what others announce, and returns when the
// messages that carry them were acknowledged or have failed, or when ctx is up, or the
// bus has taken none for as long as one has.
func together(ctx context.Context, changes []change) {
	begin := time.Now()
	timer := time.NewTimer(0) // a context of its own would cost more than all the rest
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
		left, err := c.ids[:c.part], c.err
		if err == nil {
			left, err = c.await(ctx, timer, begin)
		}
		c.came(ctx, err, remainder{ids: left, kept: len(left)})
	}
}

// await returns what of the change's part was not acknowledged when its batch was done
// or the wait was up, and why. Each message that goes, whosever it is, begins the wait anew:
// on a bus that works, a call may have many of them before its own.
func (c *change) await(ctx context.Context, timer *time.Timer, begin time.Time) (left []string, err error) {
	p := c.entity.publish
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
	if left = p.leftOf(c.batch, c.ids[:c.part]); len(left) == 0 {
		return nil, nil // only what others announce has failed
	}
	return left, err
}

// patience returns how much longer a call that waits since begin does so.
func (p *publisher) patience(begin time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.took.After(begin) {
		begin = p.took
	}
	return time.Until(begin.Add(p.bridge.config.PublishTimeout))
}

// leftOf returns those of the ids in the batch that were not acknowledged.
func (p *publisher) leftOf(b *batch, ids []string) (left []string) {
	p.mu.Lock()
	went := b.went
	p.mu.Unlock()
	if went == 0 {
		return ids
	}
	for _, id := range ids {
		if b.has[id] >= went { // which nobody changes any more, as some of it went
			left = append(left, id)
		}
	}
	return left
}

// remainder is what is left of a change's part that failed.
type remainder struct {
	begun notification // the message that failed, where the call has published it
	ids   []string     // those that were not acknowledged
	kept  int          // and of those, the first that are announced by somebody
}

// came takes what came of the change's part. Where it failed, what is left of the change
// is announced no more, but for what a worker takes over from a call that was given up.
func (c *change) came(ctx context.Context, err error, left remainder) {
	p := c.entity.publish
	rest := c.ids[c.part:]
	if c.err = err; err == nil {
		c.ids = rest
		return
	}
	c.ids = slices.Concat(left.ids, rest)
	p.changedHere(rest)
	if ctx.Err() != nil {
		p.leave(left.begun, c.ids[left.kept:])
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
		b.ids = slices.Clip(ids) // what follows is the caller's
		return
	}
	if b.has == nil && len(b.ids)+len(ids) > 1 {
		b.has = make(map[string]int, len(b.ids)+len(ids))
		for i, id := range b.ids {
			b.has[id] = i
		}
	}
	for _, id := range ids {
		if b.has != nil {
			if _, double := b.has[id]; double {
				continue
			}
			b.has[id] = len(b.ids)
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
	n := p.room.fit(p.left)
	left, p.left = p.left[:n], p.left[n:]
	p.busy = b != nil || n > 0
	return b, left
}

func (p *publisher) work() {
	for {
		b, left := p.next()
		switch {
		case b != nil:
			b.err = p.sendBatch(b)
			close(b.done)
			runtime.Gosched() // callers that go on at once are in the next message, not in the one after it
		case len(left) == 0:
			return
		}
		if len(left) > 0 && p.sendBatch(&batch{ids: left}) != nil {
			p.giveUpLeft()
		}
	}
}

// giveUpLeft drops the messages that no call waits for.
func (p *publisher) giveUpLeft() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = nil
}

func (p *publisher) sendBatch(b *batch) error {
	if b.again.Seq > 0 {
		p.sendAgain(b.again)
	}
	_, _, err := p.send(p.bridge.ctx, b.ids, &b.went)
	return err
}

// sendAgain publishes what a call that was given up has begun. A failure needs no telling,
// because the call has returned an error already.
func (p *publisher) sendAgain(begun notification) {
	var ids []string
	begun.each(func(k shared.EntityKey) { ids = append(ids, k.ID) })
	if _, n, err := p.sendHalved(p.bridge.ctx, begun, ids); err == nil && n < len(ids) {
		p.mu.Lock()
		p.left = slices.Concat(ids[n:], p.left)
		p.mu.Unlock()
	}
}

// send publishes the ids in as few messages as their size allows, and says in went how
// many were acknowledged. When it fails it returns the message that did, and how many of
// the ids were in it.
func (p *publisher) send(ctx context.Context, ids []string, went *int) (begun notification, n int, err error) {
	for rest := ids; len(rest) > 0; rest = rest[n:] {
		if begun, n, err = p.sendFirst(ctx, rest); err != nil {
			p.changedHere(rest)
			return begun, n, err
		}
		p.mu.Lock()
		*went += n
		p.mu.Unlock()
	}
	return notification{}, 0, nil
}

// sendFirst publishes as many of the ids as go into one message.
func (p *publisher) sendFirst(ctx context.Context, ids []string) (note notification, n int, err error) {
	ids = ids[:p.fit(ids)]
	return p.sendHalved(ctx, p.number(notificationOf(p.name, ids)), ids)
}

// sendHalved publishes a message, of these ids. Where it is too large for the broker, it is
// halved, with the number that nobody has heard.
func (p *publisher) sendHalved(ctx context.Context, note notification, ids []string) (notification, int, error) {
	n := len(ids)
	err := p.inTime(ctx, note)
	for ; n > 1 && errors.Is(err, bus.ErrTooLarge); err = p.inTime(ctx, note) {
		p.narrow(sizeOf(ids[:n]))
		n /= 2
		smaller := notificationOf(p.name, ids[:n])
		smaller.Seq, smaller.From = note.Seq, note.From
		note = smaller
	}
	return note, n, err
}

// inTime publishes one message, which has Config.PublishTimeout for itself.
func (p *publisher) inTime(ctx context.Context, note notification) error {
	bounded := deadline.After(ctx, p.bridge.config.PublishTimeout)
	defer bounded.Cancel()
	err := p.transmit(bounded, note)
	switch {
	case err == nil || errors.Is(err, bus.ErrTooLarge): // a bus that answers is waited for
		p.mu.Lock()
		p.took = time.Now()
		p.mu.Unlock()
	case bounded.Err() != nil:
		err = fmt.Errorf("%w: %w", shared.ErrUnavailable, err)
	}
	return err
}

// fit returns how many of the ids go into one message: one at least.
func (p *publisher) fit(ids []string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.room.fit(ids)
}

// narrow has further messages be smaller than one of that size, which was refused.
func (p *publisher) narrow(refused int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.room.narrow(refused)
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
	if spreader, ok := p.bridge.bus.(bus.Spreader); ok && (p.texts || note.isBeat()) {
		return spreader.Spread(ctx, p.name, body)
	}
	return p.bridge.bus.Publish(ctx, p.name, body)
}
