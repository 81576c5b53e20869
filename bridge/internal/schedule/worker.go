package schedule

import (
	"time"

	"golang.org/x/time/rate"
)

// repairShare is the part of a schedule's workers that repairs may have.
const repairShare = 4

// repairPause is how long repairs wait at least for the limiter, so that they are not taken
// one by one.
const repairPause = 100 * time.Millisecond

// newLimiter lets the repairs of one pause through at once.
func newLimiter(perSecond int) *rate.Limiter {
	if perSecond == 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), max(1, int(float64(perSecond)*repairPause.Seconds())))
}

// batchesLocked is how many workers would have something to do.
func (s *Schedule[T]) batchesLocked() int {
	size := s.config.BatchSize
	return (s.lenLocked() + size - 1) / size
}

// startLocked starts n workers, or as many as the limits allow. Those that are running may be
// busy for long, so they are not counted on.
func (s *Schedule[T]) startLocked(n int) {
	if s.held > 0 || s.closed {
		return
	}
	for ; n > 0 && s.running < s.config.Workers && s.config.Limit.enter(&s.share); n-- {
		if !s.goLocked() {
			s.config.Limit.leave(&s.share) // all is closed: no other schedule needs the place
			return
		}
		s.running++
	}
}

// accept starts a worker in the place that the schedule was granted. If there is nothing to
// do, the place is passed on: it returns the share whose schedule accepts next.
func (s *Schedule[T]) accept() (next *share) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.batchesLocked()
	if n == 0 || s.closed || s.running >= s.config.Workers || !s.goLocked() {
		return s.config.Limit.leave(&s.share)
	}
	s.running++
	s.startLocked(n - 1)
	return nil
}

// goLocked starts a worker, which counts as starting until it runs.
func (s *Schedule[T]) goLocked() bool {
	s.config.Limit.starting.Add(1)
	ok := s.config.Go(func() {
		s.config.Limit.starting.Add(-1)
		s.work()
	})
	if !ok {
		s.config.Limit.starting.Add(-1)
	}
	return ok
}

// work fetches until nothing waits, or another schedule needs the place more.
func (s *Schedule[T]) work() {
	repairs, ended := false, false
	defer func() {
		if !ended { // by runtime.Goexit in the application's code
			granted := s.config.Limit.leave(&s.share)
			s.retire(repairs)
			granted.use()
		}
	}()
	for {
		var values []T
		if values, repairs = s.take(repairs); values == nil {
			ended = true
			s.config.Limit.leave(&s.share).use()
			return
		}
		s.config.Fetch(values)
		if granted := s.config.Limit.yield(&s.share); granted != nil {
			ended = true
			s.retire(repairs)
			granted.use()
			return
		}
	}
}

// retire ends a worker that leaves work behind.
func (s *Schedule[T]) retire(repairs bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	if repairs {
		s.repairing--
	}
	s.startLocked(s.batchesLocked())
}

// take returns the next values, a batch at most, and whether repairs are among them;
// hadRepairs says that of the worker's last ones. Without any values the worker counts as
// ended.
func (s *Schedule[T]) take(hadRepairs bool) (values []T, repairs bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if hadRepairs {
		s.repairing--
	}
	for len(values) < s.config.BatchSize && !s.closed {
		e := s.popLocked(repairs)
		if e == nil {
			break
		}
		if e.lane == Repairs && !repairs {
			repairs = true
			s.repairing++
		}
		e.lane = noLane
		values = append(values, e.value)
	}
	if len(values) == 0 {
		s.running--
	}
	return values, repairs
}

// popLocked returns an entry, still with its lane; repairing says whether the worker's batch
// has repairs in it already.
func (s *Schedule[T]) popLocked(repairing bool) *Entry[T] {
	s.taken++
	order := [...]Lane{Changes, Snapshots, Repairs}
	switch s.taken % 8 {
	case 3:
		order = [...]Lane{Snapshots, Changes, Repairs}
	case 7:
		order = [...]Lane{Repairs, Changes, Snapshots}
	}
	for _, from := range order {
		if s.lanes[from].Len() == 0 || from == Repairs && !s.mayRepairLocked(repairing) {
			continue
		}
		e, _ := s.lanes[from].Pop()
		return e
	}
	return nil
}

// mayRepairLocked keeps the database from being stormed where everything must be looked at
// again, perhaps by all nodes in the same moment: a quarter of the workers do it, at the rate
// that the application allows.
func (s *Schedule[T]) mayRepairLocked(repairing bool) bool {
	if !repairing && s.repairing >= max(1, s.config.Workers/repairShare) {
		return false // one of those that repair takes it next
	}
	if s.repairs == nil {
		return true
	}
	now := time.Now()
	r := s.repairs.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now)
	}
	// Where more of them wait another worker may have its turn soon, though this one is
	// busy.
	if (wait > 0 || s.lanes[Repairs].Len() > 1) && s.resume.IsZero() {
		s.resume = now.Add(max(wait, repairPause))
		s.wakeByLocked(s.resume)
	}
	return wait == 0
}
