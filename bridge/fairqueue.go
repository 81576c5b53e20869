package bridge

import "github.com/entity-sync/entity-sync/internal/conflate"

// flowCount is how many flows a line has. Two clients share a flow by chance,
// once in so many pairs; that costs the one what the other keeps waiting.
const flowCount = 64

// fairQueue is views waiting in line, fair between clients: those of one client go
// first come first served, and the clients take turns. So a client that asks for
// a thousand keys does not keep another waiting for all of them. It is stochastic
// fairness queueing (McKenney, 1990): clients are spread by their number over a
// fixed number of flows. The zero value is empty. It is not safe for concurrent
// use.
type fairQueue struct {
	flows  [flowCount]flow
	turns  conflate.Queue[*flow] // the flows that are not empty
	length int
}

type flow struct {
	views conflate.Queue[*view]
	turn  conflate.Slot[*flow]
}

// queueEntry is a view's place in a fair queue.
type queueEntry struct {
	slot  conflate.Slot[*view]
	lane  lane // of the queue; noLane where it does not wait
	flow  uint8
	moved bool // it has been moved to another client's flow
}

// put makes v wait on behalf of the given client. It waits in no line.
func (q *fairQueue) put(v *view, client uint64) {
	v.pending.waiting = queueEntry{flow: uint8(client % flowCount)}
	q.enqueue(v)
}

func (q *fairQueue) enqueue(v *view) {
	f := &q.flows[v.pending.waiting.flow]
	f.views.Put(&v.pending.waiting.slot, v)
	q.turns.Put(&f.turn, f) // keeps its turn if it has one
	q.length++
}

// moveToShorter lets v, which waits in this queue, wait on behalf of another client too:
// one that keeps nothing else waiting is not to wait behind all that the first
// one does. Once only, or two clients could move it to the end for ever.
func (q *fairQueue) moveToShorter(v *view, client uint64) {
	to := uint8(client % flowCount)
	if v.pending.waiting.moved || q.flows[to].views.Len() > 0 {
		return
	}
	q.drop(v)
	v.pending.waiting.flow, v.pending.waiting.moved = to, true
	q.enqueue(v)
}

// drop takes v out of the line, and reports whether it was in it.
func (q *fairQueue) drop(v *view) bool {
	f := &q.flows[v.pending.waiting.flow]
	if !f.views.Drop(&v.pending.waiting.slot) {
		return false
	}
	if f.views.Len() == 0 {
		q.turns.Drop(&f.turn)
	}
	q.length--
	return true
}

// pop returns the view whose turn it is, or nil.
func (q *fairQueue) pop() *view {
	_, f, ok := q.turns.Pop()
	if !ok {
		return nil
	}
	_, v, _ := f.views.Pop()
	if f.views.Len() > 0 {
		q.turns.Put(&f.turn, f)
	}
	q.length--
	return v
}
