package schedule

import "time"

// wakeByLocked has the timer wake at a time, or before.
func (s *Schedule[T]) wakeByLocked(at time.Time) {
	if s.closed || !s.wakes.IsZero() && !at.Before(s.wakes) {
		return
	}
	s.wakes = at
	if s.timer == nil {
		s.timer = time.AfterFunc(time.Until(at), func() { s.config.Go(s.wake) })
	} else {
		s.timer.Reset(time.Until(at))
	}
}

// wake does what is due.
func (s *Schedule[T]) wake() {
	late, again := s.takeDue(time.Now())
	for _, v := range late {
		s.config.Late(v)
	}
	for _, v := range again {
		s.config.Retry(v)
	}
}

// takeDue returns the values that are late, and those whose wait after a failure is over. It
// has the timer wake for the next one.
func (s *Schedule[T]) takeDue(now time.Time) (late, again []T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wakes = time.Time{}
	if s.closed {
		return nil, nil
	}
	late, again = s.takeLateLocked(now), s.takeRetriesLocked(now)
	if !s.resume.IsZero() && !now.Before(s.resume) {
		s.resume = time.Time{}
		s.startLocked(1)
	}
	if !s.resume.IsZero() {
		s.wakeByLocked(s.resume)
	}
	return late, again
}
