// Package schedule decides when what is stale is fetched, and by how many workers. It knows
// nothing of keys, clients and rows: package bridge gives it views, of one entity type.
//
// A view waits in one of three lanes for a worker; or, after a failed fetch, for its time.
// While it has changed and the change was not handed out yet, it is watched as well: after
// LateAfter the schedule reports it as late. One lock guards all of that, and one timer runs
// for it.
package schedule

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/entity-sync/entity-sync/internal/conflate"
	"github.com/entity-sync/entity-sync/internal/fairqueue"
)

// Config is what a Schedule is made of. All functions are called without its lock.
type Config[T any] struct {
	// Workers bounds how many workers run at once, and Limit those of several schedules
	// together.
	Workers int
	Limit   *Limit

	// BatchSize bounds how many values a worker fetches at once.
	BatchSize int

	// RepairRate bounds how many repairs a second begin. Zero means no bound but that
	// they have a quarter of the workers.
	RepairRate int

	// Go runs a function in a goroutine that the caller of New waits for. It returns
	// false where none may be started any more.
	Go func(func()) bool

	// Fetch fetches values that were waiting in a lane.
	Fetch func([]T)

	// Retry is called for a value whose time to wait after a failure is over, and for
	// those that need not wait any longer. It is to be pushed again.
	Retry func(T)

	// Late is called for a value whose change has been waiting for LateAfter.
	Late func(T)
}

// Schedule is the values of one entity type that wait to be fetched, and the workers that
// fetch them. Workers start when there is work, and end when there is none.
//
// Each lane is fair between clients. A change goes before a snapshot, and both before a
// repair, so that looking at everything again holds up no change; but of eight values taken,
// one is a repair and another a snapshot if any wait, so that no lane waits for ever. Repairs
// are slowed down further, see mayRepairLocked.
//
// The caller has a lock for each value, and holds it where it gives the value's Entry to a
// method.
type Schedule[T any] struct {
	config Config[T]
	share  share // of config.Limit

	mu        sync.Mutex // guards what follows, and each Entry
	lanes     [laneCount]fairqueue.Queue[*Entry[T]]
	taken     int // to share the turns
	running   int // workers
	repairing int // workers of those whose values are, in part, repairs
	held      int // callers that are about to push more: workers start when they are done
	repairs   *rate.Limiter
	resume    time.Time // when a worker looks at the repairs again; zero where none has to
	retries   retryHeap[T]
	release   int       // how many of the retries the end of an outage still releases
	probed    time.Time // when one was last tried because of news
	changes   conflate.Queue[change[T]]
	timer     *time.Timer
	wakes     time.Time // when the timer does; zero where it does not run
	closed    bool
}

// Lane is which line a value waits in.
type Lane uint8

const (
	noLane    Lane = iota
	Changes        // a key was announced as changed
	Snapshots      // a client waits for one
	Repairs        // everything is looked at again, because something may have been missed
	laneCount
)

// Entry is a value's places in a Schedule. It must not be copied. The zero Entry is in none.
type Entry[T any] struct {
	value  T
	lane   Lane
	place  fairqueue.Entry[*Entry[T]] // in that lane
	retry  retry                      // where it waits for its time
	change conflate.Slot[change[T]]   // where it is watched
}

// New returns a Schedule, to be closed.
func New[T any](c Config[T]) *Schedule[T] {
	s := &Schedule[T]{config: c, repairs: newLimiter(c.RepairRate)}
	s.share = share{workers: c.Workers, accept: s.accept}
	c.Limit.add(&s.share)
	return s
}

// Push has v wait for a worker in a lane, on behalf of a client. A value that waits in a lane
// already is moved to a better one if it now deserves that; one that waits for its time waits
// no more.
func (s *Schedule[T]) Push(e *Entry[T], v T, to Lane, client uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retries.drop(e)
	if e.lane != noLane && e.lane <= to {
		s.lanes[e.lane].MoveToShorter(&e.place, client)
		return
	}
	s.lanes[e.lane].Drop(&e.place)
	e.value, e.lane = v, to
	s.lanes[to].Put(&e.place, e, client)
	s.startLocked(1)
}

// Remove takes a value out of the lane that it waits in, or lets it wait for its time no
// more. It reports whether the value waited: not where a worker has taken it, or Retry is
// about to be called for it.
func (s *Schedule[T]) Remove(e *Entry[T]) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	waited := s.lanes[e.lane].Drop(&e.place)
	e.lane = noLane
	return s.retries.drop(e) || waited
}

// Hold keeps workers from starting until Release, so that values that are pushed together can
// be fetched together.
func (s *Schedule[T]) Hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held++
}

// Release ends a Hold.
func (s *Schedule[T]) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held--
	s.startLocked(s.batchesLocked())
}

// LetStart lets workers that wait for a processor go first: those of all schedules with the same
// Limit. It reports whether there were any.
func (s *Schedule[T]) LetStart() bool { return s.config.Limit.LetStart() }

// Len returns how many values wait for a worker.
func (s *Schedule[T]) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lenLocked()
}

func (s *Schedule[T]) lenLocked() (n int) {
	for i := range s.lanes {
		n += s.lanes[i].Len()
	}
	return n
}

// Close ends the schedule: no worker takes anything more, and no function of Config but Go is
// called once those that run are done.
func (s *Schedule[T]) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
	s.config.Limit.remove(&s.share)
}
