package sendqueue

import (
	"net"

	"github.com/entity-sync/entity-sync/internal/eventqueue"
)

// The lane of events lies between the two others: of each event counts, in order, and too many
// become a gap. Events wait where updates do, while the Queue is held and once the secret has
// expired.

// Event has an event written, after those that wait. It does not wait.
func (q *Queue[U]) Event(e eventqueue.Event) {
	q.put(func() { q.eventsLocked().Put(e) })
}

// Gap has the client told that it has missed events of a topic: how many, or zero where that is
// not known.
func (q *Queue[U]) Gap(topic string, missed uint64) {
	q.put(func() { q.eventsLocked().Gap(topic, missed) })
}

// Retract takes back the events that wait because of a topic alone.
func (q *Queue[U]) Retract(topic string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.eventsWaitLocked() {
		q.rest.events.Retract(topic)
	}
}

func (q *Queue[U]) eventsLocked() *eventqueue.Queue {
	r := q.restLocked()
	if r.events == nil {
		c := &q.group.config
		r.events = eventqueue.New(eventqueue.Limits{Events: c.MaxEvents, Bytes: c.MaxEventBytes}, q.encoder.Gap)
	}
	return r.events
}

func (q *Queue[U]) eventsWaitLocked() bool {
	return q.rest != nil && q.rest.events != nil && !q.rest.events.IsEmpty()
}

// maxEventsAtOnce bounds how many events are written before it is the updates' turn.
const maxEventsAtOnce = maxBatch / 2

func (q *Queue[U]) takeEventsLocked(batch net.Buffers) net.Buffers {
	if !q.eventsWaitLocked() {
		return batch
	}
	batch = q.rest.events.Take(batch, maxEventsAtOnce, maxBatchBytes)
	q.dropRestLocked()
	return batch
}
