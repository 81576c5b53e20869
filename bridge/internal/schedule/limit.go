package schedule

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// Limit bounds the workers that run at once, of several schedules together. A worker starts
// once it has a place; a schedule that was refused one gets a place, in its turn, when another
// worker gives its own back.
//
// Half of the places are kept for schedules that have few or none, in equal shares, so that
// one whose fetches hang cannot take them all.
type Limit struct {
	size     int
	starting atomic.Int32 // workers that were started and do not run yet

	mu      sync.Mutex // guards what follows, and each share
	shares  []*share
	taken   int // places
	waiting []*share
}

// share is one schedule's part in a Limit.
type share struct {
	workers int // that the schedule may have
	taken   int // places
	waits   bool

	// accept puts a place that was granted to use, or passes it on: it returns the share
	// that has the place then.
	accept func() (next *share)
}

// NewLimit returns a Limit of n workers.
func NewLimit(n int) *Limit { return &Limit{size: n} }

// Size returns how many workers may run at once.
func (l *Limit) Size() int { return l.size }

// LetStart lets workers that were started, and that wait for a processor, go first. It returns
// at once where there are none.
func (l *Limit) LetStart() (waited bool) {
	if l.starting.Load() == 0 {
		return false
	}
	runtime.Gosched()
	return true
}

func (l *Limit) add(s *share) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shares = append(l.shares, s)
}

// remove lets a schedule wait for places no more. Its workers keep theirs until they leave.
func (l *Limit) remove(s *share) {
	l.mu.Lock()
	defer l.mu.Unlock()
	isIt := func(other *share) bool { return other == s }
	l.shares = slices.DeleteFunc(l.shares, isIt)
	l.waiting = slices.DeleteFunc(l.waiting, isIt)
	s.waits = false
}

// enter takes a place. A schedule that is refused is granted one as soon as that can be;
// see leave.
func (l *Limit) enter(s *share) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mayEnter(s) {
		l.taken++
		s.taken++
		return true
	}
	if !s.waits {
		s.waits = true
		l.waiting = append(l.waiting, s)
	}
	return false
}

// leave gives a place back. A schedule that waits and can have it is granted the place, and
// its share returned: call use on it.
func (l *Limit) leave(s *share) (granted *share) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken--
	s.taken--
	return l.grant()
}

// yield is leave for a worker that has more to do: it keeps its place unless a schedule that
// waits can have it.
func (l *Limit) yield(s *share) (granted *share) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		return nil
	}
	l.taken--
	s.taken--
	if granted = l.grant(); granted == nil {
		l.taken++
		s.taken++
	}
	return granted
}

// grant gives a place to the first that waits and can have one.
func (l *Limit) grant() *share {
	for i, s := range l.waiting {
		if l.mayEnter(s) {
			l.waiting = slices.Delete(l.waiting, i, i+1)
			s.waits = false
			l.taken++
			s.taken++
			return s
		}
	}
	return nil
}

func (l *Limit) mayEnter(s *share) bool {
	if l.taken >= l.size {
		return false
	}
	equal := l.size / (2 * max(1, len(l.shares)))
	if equal == 0 && l.size >= len(l.shares) {
		equal = 1
	}
	if s.taken < equal {
		return true
	}
	kept := 0
	for _, other := range l.shares {
		if other != s {
			kept += max(0, min(equal, other.workers)-other.taken)
		}
	}
	return l.taken+kept < l.size
}

// use puts a place that was granted to use; s may be nil.
func (s *share) use() {
	for s != nil {
		s = s.accept()
	}
}
