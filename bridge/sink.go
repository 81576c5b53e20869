package bridge

import "github.com/entity-sync/entity-sync/internal/conflate"

// Sink takes one client's updates. Package web has a Sink that writes to a WebSocket, and a
// program with a transport of its own has another. A Sink keeps the newest update of each slot,
// for example in a Queue, until the client has room for the update. A slow client therefore
// holds one update for each of its subscriptions at most.
//
// Its methods are called with locks of the engine held, from several goroutines: they must
// return at once and must not call the engine.
type Sink interface {
	// Push hands over an update, which replaces one still waiting in slot.
	Push(slot *Slot, u *Update)

	// Drop takes back what waits in slot, and reports whether anything did. No
	// Push with this slot is under way or follows before Drop returns.
	Drop(slot *Slot) (dropped bool)
}

// EmptySink is a Sink that takes results without rows, too. Such a result says nothing: an
// update that waits in the slot stays.
type EmptySink interface {
	Sink
	PushEmpty(slot *Slot, u *Update)
}

// FreshnessSink is a Sink that is told whether the node can vouch for what it has sent the
// client. The node cannot vouch for a subscription while the node may have missed a
// notification of its key (the bus is lost, or it came back and the rows have not been looked
// at again), while fetches of the key fail, and while a change of the key waits to be fetched
// for longer than a moment.
//
// AddStale is called as the methods of Sink are. It says that n more of the client's
// subscriptions are stale, or -n fewer, perhaps not in the order in which they became stale:
// only the sum counts. A client is fresh while the sum is zero, as at first. When a
// subscription is stale no more, every update that it waited for has been pushed. AddStale is
// not called for the subscriptions that Close ends.
type FreshnessSink interface {
	Sink
	AddStale(n int)
}

// Slot stands for one subscription of a client. The newest update waits in the slot, in one
// Queue at most. A Slot must not be copied.
type Slot conflate.Slot[*Update]

// Waiting returns the update that waits in the slot, if one does.
func (s *Slot) Waiting() (u *Update, ok bool) { return s.inner().Waiting() }

func (s *Slot) inner() *conflate.Slot[*Update] { return (*conflate.Slot[*Update])(s) }

// Queue holds what waits for one client: the newest update of each slot, in the order in which
// the slots became full. A Queue allocates nothing. The zero value is empty. A Queue is not
// safe for concurrent use.
type Queue struct{ queue conflate.Queue[*Update] }

// Put makes u the update of the slot. If an update waits there already, u replaces it and has
// its place.
func (q *Queue) Put(slot *Slot, u *Update) { q.queue.Put(slot.inner(), u) }

// Drop takes the slot out of the queue and reports whether an update was waiting there.
func (q *Queue) Drop(slot *Slot) bool { return q.queue.Drop(slot.inner()) }

// Pop removes and returns the slot that has waited longest, empty again, and its update.
func (q *Queue) Pop() (slot *Slot, u *Update, ok bool) {
	inner, u, ok := q.queue.Pop()
	return (*Slot)(inner), u, ok
}

// Len returns how many updates are waiting.
func (q *Queue) Len() int { return q.queue.Len() }
