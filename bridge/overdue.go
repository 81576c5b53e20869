package bridge

import (
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/internal/conflate"
)

// overdueAfter is how long a change may wait to be handed out before its view's
// members are told that their rows may be stale. A change that comes during a fetch
// may wait twice as long, because its view queues behind those that began to wait
// during that fetch. Twice overdueAfter must stay below the time in which a lost bus
// is noticed.
const overdueAfter = 2 * time.Second

// overdue is one entity type's views that have changed and wait for the change to
// be fetched and handed out: in the order in which they began to.
type overdue struct {
	mu      sync.Mutex // taken after a view's lock
	waiting conflate.Queue[overdueView]
	timer   *time.Timer // runs while any waits
	closed  bool
}

type overdueView struct {
	view  *view
	since time.Time
}

// add takes v in, whose change came at a time; anew where it waits already. The caller holds v's lock.
func (o *overdue) add(v *view, since time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting.Drop(&v.errand.late)
	o.waiting.Put(&v.errand.late, overdueView{v, since})
	if o.timer == nil && !o.closed {
		o.timer = time.AfterFunc(overdueAfter-time.Since(since), o.check)
	}
}

// remove lets v go. The caller holds v's lock.
func (o *overdue) remove(v *view) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting.Drop(&v.errand.late)
}

// check puts the views in doubt that have waited for too long.
func (o *overdue) check() {
	for _, v := range o.take(time.Now()) {
		v.suspectOverdue()
	}
}

// take returns those, and comes back for the next one when it is due.
func (o *overdue) take(now time.Time) (views []*view) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.timer = nil
	for {
		first, any := o.waiting.Peek()
		if !any || o.closed {
			return views
		}
		if left := overdueAfter - now.Sub(first.since); left > 0 {
			o.timer = time.AfterFunc(left, o.check)
			return views
		}
		o.waiting.Pop()
		views = append(views, first.view)
	}
}

func (o *overdue) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	if o.timer != nil {
		o.timer.Stop()
	}
}

// suspectOverdue puts the view in doubt, unless the change that it waited for was
// handed out meanwhile.
func (v *view) suspectOverdue() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.errand != nil && v.errand.changed {
		v.setDoubtLocked(v.doubt | doubtLate)
	}
}

// noteChangeLocked notes that the view has changed, and waits for that to be handed
// out. What is fetched already may be older than the change.
func (v *view) noteChangeLocked() {
	e := v.errandLocked()
	tooEarly := v.state == fetching || v.state == settling
	if e.changed && (!tooEarly || !e.again.IsZero()) {
		return // an earlier change waits for the same fetch
	}
	now := time.Now()
	if tooEarly {
		e.again = now
	}
	if !e.changed {
		e.changed = true
		v.entity.overdue.add(v, now)
	}
}

// noteHandedOutLocked notes that what was fetched has been handed out, which ends the
// wait of the changes that were known when the fetch began. It reports whether one that
// came later waits for too long already: a client must not be told that it is up to date
// between the two.
func (v *view) noteHandedOutLocked() (late bool) {
	e := v.errand
	if e == nil || !e.changed {
		return false
	}
	since := e.again
	e.changed, e.again = !since.IsZero(), time.Time{}
	v.entity.overdue.remove(v)
	if !e.changed {
		return false
	}
	if time.Since(since) >= overdueAfter {
		return true
	}
	v.entity.overdue.add(v, since)
	return false
}

// forgetChangesLocked notes that nobody is left to hand a change out to.
func (v *view) forgetChangesLocked() {
	if e := v.errand; e != nil && e.changed {
		e.changed = false
		v.entity.overdue.remove(v)
	}
}
