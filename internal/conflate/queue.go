// Package conflate keeps only the newest value: of each slot of a queue, or one value for
// many readers.
package conflate

// Slot is one place in a Queue. The zero value is empty. A slot waits in at most
// one queue at a time and must not be copied while it does.
type Slot[V any] struct {
	value      V
	prev, next *Slot[V] // in a ring of those that wait; nil for an empty slot
}

// Waiting returns the value that waits in the slot, if one does.
func (s *Slot[V]) Waiting() (v V, ok bool) { return s.value, s.next != nil }

// Queue pops slots in the order in which they became full, each with the newest
// value put into it, so it never holds more values than there are slots. It
// allocates nothing and keeps no trace of a slot that was popped or dropped. The
// zero value is empty. It is not safe for concurrent use.
type Queue[V any] struct {
	first  *Slot[V] // whose prev is the last
	length int
}

// Put makes v the value of s. A value still waiting there is replaced and keeps
// its place in the order.
func (q *Queue[V]) Put(s *Slot[V], v V) {
	s.value = v
	if s.next != nil {
		return
	}
	if q.first == nil {
		s.prev, s.next = s, s
		q.first = s
	} else {
		s.prev, s.next = q.first.prev, q.first
		s.prev.next, s.next.prev = s, s
	}
	q.length++
}

// Drop takes s out of the queue and reports whether a value was waiting there.
func (q *Queue[V]) Drop(s *Slot[V]) bool {
	if s.next == nil {
		return false
	}
	if q.length--; q.length == 0 {
		q.first = nil
	} else if q.first == s {
		q.first = s.next
	}
	s.prev.next, s.next.prev = s.next, s.prev
	*s = Slot[V]{}
	return true
}

// Pop removes and returns the slot that has waited longest, empty again, and its
// value.
func (q *Queue[V]) Pop() (s *Slot[V], v V, ok bool) {
	if q.first == nil {
		return nil, v, false
	}
	s = q.first
	v = s.value
	q.Drop(s)
	return s, v, true
}

// Peek returns the value that Pop would.
func (q *Queue[V]) Peek() (v V, ok bool) {
	if q.first == nil {
		return v, false
	}
	return q.first.value, true
}

// Len returns how many values are waiting.
func (q *Queue[V]) Len() int { return q.length }
