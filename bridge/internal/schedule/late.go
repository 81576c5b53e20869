package schedule

import "time"

// LateAfter is how long a change may wait to be handed out before clients are told that their
// rows may be stale. A change that comes during a fetch may wait twice as long, because its
// view queues behind those that began to wait during that fetch. Twice LateAfter must stay
// below the time in which a lost bus is noticed.
const LateAfter = 2 * time.Second

// change is a value that has changed, and when. Changes wait in the order in which they came.
type change[T any] struct {
	value T
	since time.Time
}

// Watch has Late called for v LateAfter since its change, unless Unwatch comes first. A
// value that is watched already is watched anew.
func (s *Schedule[T]) Watch(e *Entry[T], v T, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes.Drop(&e.change)
	s.changes.Put(&e.change, change[T]{v, since})
	s.wakeByLocked(since.Add(LateAfter))
}

// Unwatch ends the wait of a value's change.
func (s *Schedule[T]) Unwatch(e *Entry[T]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes.Drop(&e.change)
}

// takeLateLocked takes out the values that are late.
func (s *Schedule[T]) takeLateLocked(now time.Time) (late []T) {
	for {
		first, any := s.changes.Peek()
		if !any {
			return late
		}
		if due := first.since.Add(LateAfter); now.Before(due) {
			s.wakeByLocked(due)
			return late
		}
		s.changes.Pop()
		late = append(late, first.value)
	}
}
