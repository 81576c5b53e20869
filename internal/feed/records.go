package feed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/shared"
)

// maxRecordsBytes is how much goes together into one message. One record alone may be larger.
const maxRecordsBytes = 32 << 10

// recordQueue is what waits to be published on a Stream, in order. One message is under way at
// a time; what piles up meanwhile goes out together.
type recordQueue struct {
	stream *Stream

	mu      sync.Mutex // guards what follows
	waiting []*recordCall
	busy    bool // a worker is publishing
	closed  bool

	acknowledged uint64 // number of the last message that the bus has taken
}

// recordCall is one call of Publish.
type recordCall struct {
	record json.RawMessage
	done   chan error // with room for one
}

// Publish hands a record, which is valid JSON without white space around it, to each node that
// listens. When it returns nil, each of those hears the record, or that it may have missed some.
// Records are heard in the order in which the calls began.
//
// It waits for the bus no longer than ctx and Config.PublishTimeout allow. On an error, which
// wraps shared.ErrUnavailable, ErrTooLarge or ErrClosed, the record may have got through all the
// same.
func (s *Stream) Publish(ctx context.Context, record json.RawMessage) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c := &recordCall{record, make(chan error, 1)}
	if !s.publish.add(c) {
		return shared.ErrClosed
	}
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		s.publish.remove(c)
		return fmt.Errorf("%w: %w", shared.ErrUnavailable, ctx.Err())
	}
}

// add returns false where the Node is closing.
func (q *recordQueue) add(c *recordCall) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || !q.busy && !q.stream.feed.node.startPublishing(q.work) {
		return false
	}
	q.busy = true
	q.waiting = append(q.waiting, c)
	return true
}

// remove takes out a call that was given up, unless its record is under way.
func (q *recordQueue) remove(c *recordCall) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = slices.DeleteFunc(q.waiting, func(other *recordCall) bool { return other == c })
}

func (q *recordQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
}

// next takes the calls whose records go together, one at least. Without any the worker that
// asked counts as ended.
func (q *recordQueue) next() (calls []*recordCall) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, size := 0, 0
	for ; n < len(q.waiting); n++ {
		if size += len(q.waiting[n].record) + len(","); n > 0 && size > maxRecordsBytes {
			break
		}
	}
	calls, q.waiting = q.waiting[:n:n], q.waiting[n:]
	q.busy = n > 0
	return calls
}

func (q *recordQueue) work() {
	for calls := q.next(); len(calls) > 0; calls = q.next() {
		for len(calls) > 0 {
			n, err := q.send(calls)
			for _, c := range calls[:n] {
				c.done <- err
			}
			calls = calls[n:]
		}
	}
}

// send publishes as many of the calls' records as the broker takes in one message, and returns
// how many those are: one at least.
func (q *recordQueue) send(calls []*recordCall) (n int, err error) {
	p := &q.stream.feed.publish
	m := p.number(message{Entity: q.stream.feed.topic})
	m.Skip = m.Seq - 1 - q.reached()
	for n = len(calls); ; n /= 2 {
		m.Records = m.Records[:0:0]
		for _, c := range calls[:n] {
			m.Records = append(m.Records, c.record)
		}
		err = p.inTime(q.stream.feed.node.ctx, m)
		if err == nil {
			q.acknowledge(m.Seq)
		}
		if !errors.Is(err, bus.ErrTooLarge) {
			return n, err
		}
		if n == 1 {
			p.takeBack(m.Seq) // nobody has heard it
			return n, fmt.Errorf("%w: %w", shared.ErrTooLarge, err)
		}
	}
}

// acknowledge notes the number of a message that the bus has taken. Those before it that the bus
// has not taken are in no Gap: their callers have had an error.
func (q *recordQueue) acknowledge(number uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.acknowledged = number
}

// reached returns the number of the last message that the bus has taken.
func (q *recordQueue) reached() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.acknowledged
}

// takeBack makes the last number that of the next message.
func (p *publisher) takeBack(number uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seq == number {
		p.seq--
	}
}
