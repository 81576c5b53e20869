package bridge

import (
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/internal/conflate"
)

// lateAfter is how long a change may wait to be handed out before its view's
// members are told that their rows may be stale. A change that comes during a fetch
// may wait twice as long, because its view queues behind those that began to wait
// during that fetch. Twice lateAfter must stay below the time in which a lost bus
// is noticed.
const lateAfter = 2 * time.Second

// lagWatch is one entity type's views that have changed and wait for the change to
// be fetched and handed out: in the order in which they began to.
type lagWatch struct {
	mu      sync.Mutex // guards what follows, and the slots of the views that wait here
	waiting conflate.Queue[waitingChange]
	timer   *time.Timer // runs while any waits
	closed  bool
}

type waitingChange struct {
	view  *view
	since time.Time
}

// add takes v in, whose change came at a time; anew where it waits already. The caller holds v's lock.
func (w *lagWatch) add(v *view, since time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting.Drop(&v.pending.late)
	w.waiting.Put(&v.pending.late, waitingChange{v, since})
	if w.timer == nil && !w.closed {
		w.timer = time.AfterFunc(lateAfter-time.Since(since), w.check)
	}
}

// remove lets v go. The caller holds v's lock.
func (w *lagWatch) remove(v *view) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting.Drop(&v.pending.late)
}

// check makes the views stale that have waited for too long.
func (w *lagWatch) check() {
	for _, v := range w.take(time.Now()) {
		v.suspectLate()
	}
}

// take returns those, and comes back for the next one when it is due.
func (w *lagWatch) take(now time.Time) (views []*view) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = nil
	for {
		first, any := w.waiting.Peek()
		if !any || w.closed {
			return views
		}
		if left := lateAfter - now.Sub(first.since); left > 0 {
			w.timer = time.AfterFunc(left, w.check)
			return views
		}
		w.waiting.Pop()
		views = append(views, first.view)
	}
}

func (w *lagWatch) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	if w.timer != nil {
		w.timer.Stop()
	}
}

// suspectLate makes the view stale, unless the change that it waited for was
// handed out meanwhile.
func (v *view) suspectLate() {
	v.lock()
	defer v.unlock()
	if v.pending != nil && v.pending.changed {
		v.setStaleLocked(v.stale | staleLate)
	}
}

// noteChangeLocked notes that the view has changed, and waits for that to be handed
// out. What is fetched already may be older than the change.
func (v *view) noteChangeLocked() {
	e := v.pendingLocked()
	tooEarly := v.state == fetching || v.state == delivering
	if e.changed && (!tooEarly || !e.again.IsZero()) {
		return // an earlier change waits for the same fetch
	}
	now := time.Now()
	if tooEarly {
		e.again = now
	}
	if !e.changed {
		e.changed = true
		v.entity.lagging.add(v, now)
	}
}

// noteHandedOutLocked notes that what was fetched has been handed out, which ends the
// wait of the changes that were known when the fetch began. It reports whether one that
// came later waits for too long already: a client must not be told that it is up to date
// between the two.
func (v *view) noteHandedOutLocked() (late bool) {
	e := v.pending
	if e == nil || !e.changed {
		return false
	}
	since := e.again
	e.changed, e.again = !since.IsZero(), time.Time{}
	v.entity.lagging.remove(v)
	if !e.changed {
		return false
	}
	if time.Since(since) >= lateAfter {
		return true
	}
	v.entity.lagging.add(v, since)
	return false
}

// forgetChangesLocked notes that nobody is left to hand a change out to.
func (v *view) forgetChangesLocked() {
	if e := v.pending; e != nil && e.changed {
		e.changed = false
		v.entity.lagging.remove(v)
	}
}
