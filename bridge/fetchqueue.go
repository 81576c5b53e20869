package bridge

import (
	"sync"

	"github.com/entity-sync/entity-sync/internal/conflate"
)

// lane is which of a queue's lines a view waits in.
type lane uint8

const (
	noLane     lane = iota
	changeLane      // a key was announced as changed
	joinLane        // a client waits for a snapshot
	repairLane      // everything is looked at again, because something may have been missed
	lanes
)

// laneOf says where a view waits that is owed a fetch for the given cause.
func laneOf(c cause) lane {
	switch {
	case c&causeNotified != 0:
		return changeLane
	case c&causeJoined != 0:
		return joinLane
	default:
		return repairLane
	}
}

// fetchQueue is one entity type's views waiting to be fetched, and the workers
// that fetch them. Workers start when there is work, up to the entity's limit,
// and end when there is none.
//
// Each lane is first come first served. A change goes before a snapshot, and
// both before a repair, so that looking at everything again holds up no change;
// but of eight views taken, one is a repair and another a snapshot if any wait,
// so that no lane waits for ever.
type fetchQueue struct {
	entity *entity

	mu      sync.Mutex // taken after a view's lock
	lines   [lanes]conflate.Queue[*view]
	taken   int // to share the turns
	running int // workers
	held    int // who is about to push more: workers start when it is done
}

// push queues v in the lane for what it is owed. A view that waits already is
// moved to a better lane if it now deserves one. The caller holds v's lock.
func (q *fetchQueue) push(v *view, to lane) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if v.lane != noLane && v.lane <= to {
		return
	}
	q.lines[v.lane].Drop(&v.waiting)
	q.lines[to].Put(&v.waiting, v)
	v.lane = to
	q.startLocked(1)
}

// remove takes v out of the queue, and reports whether it was in it. The caller
// holds v's lock.
func (q *fetchQueue) remove(v *view) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	removed := q.lines[v.lane].Drop(&v.waiting)
	v.lane = noLane
	return removed
}

// hold keeps workers from starting until release, so that views which are
// marked together can be fetched together.
func (q *fetchQueue) hold() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held++
}

func (q *fetchQueue) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held--
	size := q.entity.options.BatchSize
	q.startLocked((q.lengthLocked() + size - 1) / size)
}

// startLocked starts n workers, or as many as the limit allows. Those that are
// running may be busy for long, so they are not counted on.
func (q *fetchQueue) startLocked(n int) {
	if q.held > 0 {
		return
	}
	for ; n > 0 && q.running < q.entity.options.Workers; n-- {
		if !q.entity.bridge.startWorker(q.work) {
			return
		}
		q.running++
	}
}

// take returns the next views, a batch at most. Without any it returns nil, and
// the worker that asked counts as ended.
func (q *fetchQueue) take() (views []*view) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.entity.bridge.ctx.Err() == nil {
		for len(views) < q.entity.options.BatchSize {
			v := q.popLocked()
			if v == nil {
				break
			}
			views = append(views, v)
		}
	}
	if len(views) == 0 {
		q.running--
	}
	return views
}

func (q *fetchQueue) popLocked() *view {
	q.taken++
	order := [...]lane{changeLane, joinLane, repairLane}
	switch q.taken % 8 {
	case 3:
		order = [...]lane{joinLane, changeLane, repairLane}
	case 7:
		order = [...]lane{repairLane, changeLane, joinLane}
	}
	for _, from := range order {
		if _, v, ok := q.lines[from].Pop(); ok {
			v.lane = noLane
			return v
		}
	}
	return nil
}

func (q *fetchQueue) length() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lengthLocked()
}

func (q *fetchQueue) lengthLocked() (n int) {
	for i := range q.lines {
		n += q.lines[i].Len()
	}
	return n
}

// work fetches until nothing waits.
func (q *fetchQueue) work() {
	ended := false
	defer func() {
		if !ended { // by runtime.Goexit in the application's code
			q.replace()
		}
	}()
	for views := q.take(); views != nil; views = q.take() {
		q.fetch(views)
	}
	ended = true
}

// replace starts a worker for one that ended before its time.
func (q *fetchQueue) replace() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running--
	q.startLocked(1)
}

func (q *fetchQueue) fetch(views []*view) {
	defer func() {
		for _, v := range views {
			q.entity.bridge.index.removeUnused(v)
		}
	}()
	jobs := make([]fetchJob, 0, len(views))
	for _, v := range views {
		v.pollSecrets()
		if job, ok := v.begin(); ok {
			jobs = append(jobs, job)
		}
	}
	if len(jobs) > 0 {
		q.entity.run(jobs)
	}
}
