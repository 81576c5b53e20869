package bridge

import (
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/internal/conflate"
)

// overdueAfter is how long a change that the node has heard of may wait to be
// handed out before those who watch it are told that they may be out of date. A
// change that comes during the fetch for another waits as long again, so both
// together must stay below the time in which a lost bus is noticed.
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

// add takes v in, anew where it waits already. The caller holds v's lock.
func (o *overdue) add(v *view) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting.Drop(&v.errand.late)
	o.waiting.Put(&v.errand.late, overdueView{v, time.Now()})
	if o.timer == nil && !o.closed {
		o.timer = time.AfterFunc(overdueAfter, o.check)
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

// noteChangeLocked notes whether the view has changed and waits for that to be
// handed out; anew says that this is another change than the one before.
func (v *view) noteChangeLocked(changed, anew bool) {
	if !changed && v.errand == nil {
		return
	}
	e := v.errandLocked()
	switch {
	case changed && (anew || !e.changed):
		v.entity.overdue.add(v)
	case !changed && e.changed:
		v.entity.overdue.remove(v)
	}
	e.changed = changed
}
