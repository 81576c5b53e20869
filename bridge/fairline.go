package bridge

import "github.com/entity-sync/entity-sync/internal/conflate"

// flowCount is how many flows a line has. Two clients share a flow by chance,
// once in so many pairs; that costs the one what the other keeps waiting.
const flowCount = 64

// fairLine is views waiting in line, fair between clients: those of one client go
// first come first served, and the clients take turns. So a client that asks for
// a thousand keys does not keep another waiting for all of them. It is stochastic
// fairness queueing (McKenney, 1990): clients are spread by their number over a
// fixed number of flows. The zero value is empty. It is not safe for concurrent
// use.
type fairLine struct {
	flows  [flowCount]flow
	turns  conflate.Queue[*flow] // the flows that are not empty
	length int
}

type flow struct {
	views conflate.Queue[*view]
	turn  conflate.Slot[*flow]
}

// standing is a view's place in a line.
type standing struct {
	slot     conflate.Slot[*view]
	flow     uint8
	favoured bool // it has been moved to another client's flow
}

// put makes v wait on behalf of the given client. It waits in no line.
func (l *fairLine) put(v *view, client uint64) {
	v.errand.waiting = standing{flow: uint8(client % flowCount)}
	l.enqueue(v)
}

func (l *fairLine) enqueue(v *view) {
	f := &l.flows[v.errand.waiting.flow]
	f.views.Put(&v.errand.waiting.slot, v)
	l.turns.Put(&f.turn, f) // keeps its turn if it has one
	l.length++
}

// favour lets v, which waits in this line, wait on behalf of another client too:
// one that keeps nothing else waiting is not to wait behind all that the first
// one does. Once only, or two clients could move it to the end for ever.
func (l *fairLine) favour(v *view, client uint64) {
	to := uint8(client % flowCount)
	if v.errand.waiting.favoured || l.flows[to].views.Len() > 0 {
		return
	}
	l.drop(v)
	v.errand.waiting.flow, v.errand.waiting.favoured = to, true
	l.enqueue(v)
}

// drop takes v out of the line, and reports whether it was in it.
func (l *fairLine) drop(v *view) bool {
	f := &l.flows[v.errand.waiting.flow]
	if !f.views.Drop(&v.errand.waiting.slot) {
		return false
	}
	if f.views.Len() == 0 {
		l.turns.Drop(&f.turn)
	}
	l.length--
	return true
}

// pop returns the view whose turn it is, or nil.
func (l *fairLine) pop() *view {
	_, f, ok := l.turns.Pop()
	if !ok {
		return nil
	}
	_, v, _ := f.views.Pop()
	if f.views.Len() > 0 {
		l.turns.Put(&f.turn, f)
	}
	l.length--
	return v
}
