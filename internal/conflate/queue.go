// Package conflate is a queue that keeps only the newest value of each slot.
package conflate

// Slot is one place in a Queue. The zero value is empty. A slot belongs to at
// most one queue and must not be copied once used.
type Slot[V any] struct {
	value  V
	full   bool // value is waiting to be popped
	linked bool // the slot is in its queue's list
	next   *Slot[V]
}

// Queue pops slots in the order in which they became full, each with the newest
// value put into it, so it never holds more values than there are slots. It
// allocates nothing. The zero value is empty. It is not safe for concurrent use.
type Queue[V any] struct {
	head, tail *Slot[V]
	full       int
}

// Put makes v the value of s. A value still waiting there is replaced and keeps
// its place in the order.
func (q *Queue[V]) Put(s *Slot[V], v V) {
	s.value = v
	if !s.full {
		s.full = true
		q.full++
	}
	if s.linked {
		return
	}
	s.linked = true
	if q.tail == nil {
		q.head = s
	} else {
		q.tail.next = s
	}
	q.tail = s
}

// Drop empties s and reports whether a value was waiting there. The slot's
// place in the list is given up when Pop comes past it, so Drop is O(1).
func (q *Queue[V]) Drop(s *Slot[V]) bool {
	if !s.full {
		return false
	}
	s.empty()
	q.full--
	return true
}

// Pop removes and returns the value that has waited longest.
func (q *Queue[V]) Pop() (v V, ok bool) {
	for q.head != nil {
		s := q.head
		q.head, s.next, s.linked = s.next, nil, false
		if q.head == nil {
			q.tail = nil
		}
		if s.full {
			v = s.value
			s.empty()
			q.full--
			return v, true
		}
	}
	return v, false
}

// Len returns how many values are waiting.
func (q *Queue[V]) Len() int { return q.full }

func (s *Slot[V]) empty() {
	var zero V
	s.value, s.full = zero, false
}
