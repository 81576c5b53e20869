package bridge

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/entity-sync/entity-sync/internal/fairqueue"
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

// queueEntry is a view's place in a queue.
type queueEntry struct {
	lane  lane
	place fairqueue.Entry[*view] // in that lane
}

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
// that fetch them. Workers start when there is work, up to the entity's limit and
// the node's, and end when there is none.
//
// Each lane is fair between clients. A change goes before a snapshot, and both
// before a repair, so that looking at everything again holds up no change; but of
// eight views taken, one is a repair and another a snapshot if any wait, so that
// no lane waits for ever. Repairs are slowed down further, see mayRepairLocked.
type fetchQueue struct {
	entity     *entity
	fetchLimit *fetchLimit // the node's, or that of EntityOptions.Limit
	places     places

	mu        sync.Mutex // guards what follows, and each view's queueEntry
	lines     [lanes]fairqueue.Queue[*view]
	taken     int // to share the turns
	running   int // workers
	repairing int // workers of those whose views are, in part, repairs
	held      int // who is about to push more: workers start when it is done
	repairs   *rate.Limiter
	resume    *time.Timer // runs while repairs wait for the limiter
	closed    bool
}

// repairShare is the part of an entity type's workers that repairs may have.
const repairShare = 4

// repairPause is how long repairs wait at least for the limiter, so that they are
// not taken one by one.
const repairPause = 100 * time.Millisecond

// newLimiter lets the repairs of one pause through at once.
func newLimiter(perSecond int) *rate.Limiter {
	if perSecond == 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), max(1, int(float64(perSecond)*repairPause.Seconds())))
}

// push queues v, on behalf of a client, in the lane for what it is owed. A view
// that waits already is moved to a better lane if it now deserves one. The caller
// holds v's lock.
func (q *fetchQueue) push(v *view, to lane, client uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	waiting := &v.pending.waiting
	if waiting.lane != noLane && waiting.lane <= to {
		q.lines[waiting.lane].MoveToShorter(&waiting.place, client)
		return
	}
	q.lines[waiting.lane].Drop(&waiting.place)
	q.lines[to].Put(&waiting.place, v, client)
	waiting.lane = to
	q.startLocked(1)
}

// remove takes v out of the queue, and reports whether it was in it. The caller
// holds v's lock.
func (q *fetchQueue) remove(v *view) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	waiting := &v.pending.waiting
	removed := q.lines[waiting.lane].Drop(&waiting.place)
	waiting.lane = noLane
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
	q.startLocked(q.batchesLocked())
}

// batchesLocked is how many workers would have something to do.
func (q *fetchQueue) batchesLocked() int {
	size := q.entity.options.BatchSize
	return (q.lengthLocked() + size - 1) / size
}

// startLocked starts n workers, or as many as the limits allow. Those that are
// running may be busy for long, so they are not counted on.
func (q *fetchQueue) startLocked(n int) {
	if q.held > 0 {
		return
	}
	for ; n > 0 && q.running < q.entity.options.Workers && q.fetchLimit.enter(q); n-- {
		if !q.entity.bridge.startWorker(q.work) {
			q.fetchLimit.leave(q) // the Bridge is closed: nobody needs the place
			return
		}
		q.running++
	}
}

// accept starts a worker in the place that the queue was granted. If there is
// nothing to do, the place is passed on: it returns the queue to call next.
func (q *fetchQueue) accept() (next *fetchQueue) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.batchesLocked()
	if n == 0 || q.running >= q.entity.options.Workers || !q.entity.bridge.startWorker(q.work) {
		return q.fetchLimit.leave(q)
	}
	q.running++
	q.startLocked(n - 1)
	return nil
}

// take returns the next views, a batch at most, and whether repairs are among
// them; hadRepairs says that of the worker's last ones. Without any views the
// worker counts as ended.
func (q *fetchQueue) take(hadRepairs bool) (views []*view, repairs bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if hadRepairs {
		q.repairing--
	}
	if q.entity.bridge.ctx.Err() == nil {
		for len(views) < q.entity.options.BatchSize {
			v := q.popLocked(repairs)
			if v == nil {
				break
			}
			if v.pending.waiting.lane == repairLane && !repairs {
				repairs = true
				q.repairing++
			}
			v.pending.waiting.lane = noLane
			views = append(views, v)
		}
	}
	if len(views) == 0 {
		q.running--
	}
	return views, repairs
}

// popLocked returns a view, still with its lane; repairing says whether the
// worker's batch has repairs in it already.
func (q *fetchQueue) popLocked(repairing bool) *view {
	q.taken++
	order := [...]lane{changeLane, joinLane, repairLane}
	switch q.taken % 8 {
	case 3:
		order = [...]lane{joinLane, changeLane, repairLane}
	case 7:
		order = [...]lane{repairLane, changeLane, joinLane}
	}
	for _, from := range order {
		if q.lines[from].Len() == 0 || from == repairLane && !q.mayRepairLocked(repairing) {
			continue
		}
		v, _ := q.lines[from].Pop()
		return v
	}
	return nil
}

// mayRepairLocked keeps the database from being stormed where everything must be
// looked at again, perhaps by all nodes in the same moment: a quarter of the
// workers do it, at the rate that the application allows.
func (q *fetchQueue) mayRepairLocked(repairing bool) bool {
	if !repairing && q.repairing >= max(1, q.entity.options.Workers/repairShare) {
		return false // one of those that repair takes it next
	}
	if q.repairs == nil {
		return true
	}
	now := time.Now()
	r := q.repairs.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now)
	}
	// Where more of them wait another worker may have its turn soon, though this
	// one is busy.
	if (wait > 0 || q.lines[repairLane].Len() > 1) && q.resume == nil && !q.closed {
		q.resume = time.AfterFunc(max(wait, repairPause), q.resumeRepairs)
	}
	return wait == 0
}

func (q *fetchQueue) resumeRepairs() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.resume = nil
	q.startLocked(1)
}

func (q *fetchQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	if q.resume != nil {
		q.resume.Stop()
	}
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

// work fetches until nothing waits, or another entity type needs the place more.
func (q *fetchQueue) work() {
	repairs, ended := false, false
	defer func() {
		if !ended { // by runtime.Goexit in the application's code
			granted := q.fetchLimit.leave(q)
			q.retire(repairs)
			granted.use()
		}
	}()
	for {
		var views []*view
		if views, repairs = q.take(repairs); views == nil {
			ended = true
			q.fetchLimit.leave(q).use()
			return
		}
		q.fetch(views)
		if granted := q.fetchLimit.yield(q); granted != nil {
			ended = true
			q.retire(repairs)
			granted.use()
			return
		}
	}
}

// retire ends a worker that leaves work behind.
func (q *fetchQueue) retire(repairs bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running--
	if repairs {
		q.repairing--
	}
	q.startLocked(q.batchesLocked())
}

// use puts a place that q was granted to use; q may be nil.
func (q *fetchQueue) use() {
	for q != nil {
		q = q.accept()
	}
}

func (q *fetchQueue) fetch(views []*view) {
	defer func() {
		for _, v := range views {
			q.entity.index.removeUnused(v)
		}
	}()
	jobs, left := make([]fetchJob, 0, len(views)), views
	defer func() {
		if len(left) > 0 { // a scope function has ended its goroutine, which is this one
			for _, v := range left {
				v.failToBegin()
			}
			for _, job := range jobs {
				q.entity.settle(job, outcome{err: "the scope function ended its goroutine"})
			}
		}
	}()
	for i, v := range views {
		left = views[i:]
		if job, ok := v.begin(); ok {
			jobs = append(jobs, job)
		} else { // all its members may have moved; what is fetched with it may take long
			q.entity.index.removeUnused(v)
		}
	}
	left = nil
	if len(jobs) > 0 {
		q.entity.run(jobs)
	}
}
