// Package fairqueue holds values that wait for their turn, fairly between the clients on
// whose behalf they wait.
package fairqueue

import "github.com/entity-sync/entity-sync/internal/conflate"

// flowCount is how many flows a queue has. By chance, once in so many pairs, two clients
// share a flow; then each waits behind the other's values too.
const flowCount = 64

// Queue is values waiting in line, fair between clients: those of one client go
// first come first served, and the clients take turns. So a client that asks for
// a thousand values does not keep another waiting for all of them. It is stochastic
// fairness queueing (McKenney, 1990): clients are spread by their number over a
// fixed number of flows. The zero value is empty. It is not safe for concurrent
// use.
type Queue[T any] struct {
	flows  [flowCount]flow[T]
	turns  conflate.Queue[*flow[T]] // the flows that are not empty
	length int
}

type flow[T any] struct {
	entries conflate.Queue[T]
	turn    conflate.Slot[*flow[T]]
}

// Entry is a value's place in a Queue. It must not be copied while the value waits.
type Entry[T any] struct {
	slot  conflate.Slot[T]
	flow  uint8
	moved bool // to the flow of another client
}

// Len returns how many values wait.
func (q *Queue[T]) Len() int { return q.length }

// Put makes v wait on behalf of the given client. No value may wait in e.
func (q *Queue[T]) Put(e *Entry[T], v T, client uint64) {
	e.flow, e.moved = flowOf(client), false
	q.enqueue(e, v)
}

func flowOf(client uint64) uint8 { return uint8(client % flowCount) }

func (q *Queue[T]) enqueue(e *Entry[T], v T) {
	f := &q.flows[e.flow]
	f.entries.Put(&e.slot, v)
	q.turns.Put(&f.turn, f) // keeps its turn if it has one
	q.length++
}

// MoveToShorter moves the value in e to the flow of another client that wants it too, if
// nothing waits in that flow. So that client does not wait behind all that the first one has
// asked for. A value moves once only: two clients could otherwise move it to the end for ever.
func (q *Queue[T]) MoveToShorter(e *Entry[T], client uint64) {
	to := flowOf(client)
	v, waits := e.slot.Waiting()
	if !waits || e.moved || q.flows[to].entries.Len() > 0 {
		return
	}
	q.Drop(e)
	e.flow, e.moved = to, true
	q.enqueue(e, v)
}

// Drop removes the value in e, and reports whether there was one.
func (q *Queue[T]) Drop(e *Entry[T]) bool {
	f := &q.flows[e.flow]
	if !f.entries.Drop(&e.slot) {
		return false
	}
	if f.entries.Len() == 0 {
		q.turns.Drop(&f.turn)
	}
	q.length--
	return true
}

// Pop returns the value whose turn it is. It is not ok if none waits.
func (q *Queue[T]) Pop() (v T, ok bool) {
	_, f, ok := q.turns.Pop()
	if !ok {
		return v, false
	}
	_, v, _ = f.entries.Pop()
	if f.entries.Len() > 0 {
		q.turns.Put(&f.turn, f)
	}
	q.length--
	return v, true
}
