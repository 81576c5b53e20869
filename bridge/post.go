package bridge

// Marks are posted: who marks a view, first of all the reader of the bus, does not wait for
// its lock, which is held while a result is handed out to all of its members. What is posted
// is taken at once where the lock is free, and otherwise by the next one who has it.

// posted is causes that a view is to be marked with, and lostBus.
type posted uint32

// lostBus makes a view stale until the bus is back.
const lostBus posted = 1 << 8

// post marks the view, and never waits.
func (v *view) post(p posted) {
	before := posted(v.posted.Or(uint32(p)))
	if before&p&posted(causeNotified) != 0 {
		v.entity.bridge.counts.coalesced.Add(1)
	}
	// A TryLock that fails synchronizes with nothing: only the load, of what was posted,
	// orders it after the post, so that one of the two sees what the other did.
	if v.posted.Load() != 0 && v.mu.TryLock() {
		v.takePostedLocked()
		v.unlock()
	}
}

// lock waits for the view, with all that was posted.
func (v *view) lock() {
	v.mu.Lock()
	v.takePostedLocked()
}

// unlock takes what was posted while the lock was held. Where it is taken again meanwhile,
// that is for who has it.
func (v *view) unlock() {
	for {
		v.mu.Unlock()
		if v.posted.Load() == 0 || !v.mu.TryLock() {
			return
		}
		v.takePostedLocked()
	}
}

func (v *view) takePostedLocked() {
	if v.posted.Load() == 0 {
		return
	}
	p := posted(v.posted.Swap(0))
	if v.state == removed {
		return
	}
	c, reasons, live := cause(p&^lostBus), v.stale, v.entity.feed.Live()
	if p&lostBus != 0 && !live { // else it is back already
		reasons |= staleBus
	}
	if c&causeMissed != 0 {
		if live {
			reasons &^= staleBus
		}
		if v.forAll > v.entity.index.missed.Load() {
			c &^= causeMissed // it was fetched since
		} else {
			reasons |= staleMissed
		}
	}
	v.setStaleLocked(reasons)
	if c != 0 {
		v.markLocked(c, v.payerLocked())
	}
}
