package feed

import (
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/shared"
)

// publisher publishes on one Feed. One message is under way at a time. A call that finds no
// message under way publishes its ids inline. Ids that arrive meanwhile go out together, each
// id once, from a worker. So an idle system adds no wait, and a storm on one id costs a
// message for each acknowledgement, not for each call.
type publisher struct {
	feed *Feed

	mu      sync.Mutex
	waiting *batch   // the ids of the next message; nil when none wait
	left    []string // ids of cancelled calls, which a worker publishes between batches
	room    room
	took    time.Time // when the bus last took a message, or said that it is too large
	busy    bool      // a call or a worker is publishing
	seq     uint64    // number of the last message given to the bus
	closed  bool
}

// patience returns how much longer a call goes on waiting that waits since begin.
func (p *publisher) patience(begin time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.took.After(begin) {
		begin = p.took
	}
	return time.Until(begin.Add(p.feed.node.config.PublishTimeout))
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
		if b.has[id] >= went { // b.has does not change any more, because b is being sent
			left = append(left, id)
		}
	}
	return left
}

// begin makes the caller the one goroutine that publishes, until it calls end. It returns
// false if another one publishes, or the Node is closed.
func (p *publisher) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy || !p.feed.node.joinPublishing() {
		return false
	}
	p.busy = true
	return true
}

// end leaves the ids that have piled up to a worker, so that the caller can return.
func (p *publisher) end() {
	n := p.feed.node
	defer n.publishing.Done()
	p.mu.Lock()
	more := p.waiting != nil || len(p.left) > 0
	p.busy = more
	p.mu.Unlock()
	if more && !n.startPublishing(p.work) {
		p.work() // the Node is closing, and waits for this
	}
}

// leave has a worker publish the ids of a cancelled call, whose end says nothing of the bus.
// The message in flight keeps its number: otherwise, if it did not get through, all nodes
// would take it for lost, and repair all that they watch.
func (p *publisher) leave(inFlight message, ids []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || !p.workLocked() {
		return
	}
	if inFlight.Seq > 0 {
		p.expectLocked()
		p.waiting.first = inFlight // there is one at most: from now on a worker publishes
	}
	p.left = append(p.left, ids[:min(len(ids), maxLeft-min(len(p.left), maxLeft))]...)
}

// maxLeft bounds the ids that are kept for cancelled calls. Further ids are not published,
// as their calls' errors have said.
const maxLeft = 1 << 20

// workLocked makes sure that a worker runs, or will run when the call that publishes ends.
// It returns false if the Node is closing.
func (p *publisher) workLocked() bool {
	if !p.busy {
		p.busy = p.feed.node.startPublishing(p.work)
	}
	return p.busy
}

// expectLocked makes sure that there is a batch to add to.
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
		return nil, shared.ErrClosed // so that the ids that wait already come to an end
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

// next takes the waiting batch, and a message's worth of the ids of cancelled calls. If there
// is neither, the worker that asked counts as ended.
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
			runtime.Gosched() // callers that go on at once get into the next message, not the one after it
		case len(left) == 0:
			return
		}
		if len(left) > 0 && p.sendBatch(&batch{ids: left}) != nil {
			p.giveUpLeft()
		}
	}
}

// giveUpLeft drops the ids for which no call waits.
func (p *publisher) giveUpLeft() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = nil
}

func (p *publisher) sendBatch(b *batch) error {
	if b.first.Seq > 0 {
		p.retryFirst(b.first)
	}
	_, _, err := p.send(p.feed.node.ctx, b.ids, &b.went)
	return err
}

// retryFirst publishes the message that a cancelled call had in flight. It ignores a failure,
// because the call has returned an error already.
func (p *publisher) retryFirst(inFlight message) {
	ids := slices.Collect(inFlight.each)
	if _, n, err := p.sendHalved(p.feed.node.ctx, inFlight, ids); err == nil && n < len(ids) {
		p.mu.Lock()
		p.left = slices.Concat(ids[n:], p.left)
		p.mu.Unlock()
	}
}
