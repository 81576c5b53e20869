package bridge

import (
	"runtime"
	"slices"
	"time"
)

// finish hands the result of the fetch in flight to the members there are now,
// and queues the view again if it was marked since the fetch began. It returns
// false, having done nothing, where the result is older than one handed out
// before.
func (v *view) finish(job fetchJob, u *Update) (ok bool) {
	refused, ok := v.deliverAll(job, u)
	if !ok {
		return false
	}
	// In state delivering no newer result can come between.
	for _, sub := range refused {
		sub.client.evict(sub, v, u)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.members) == 0 {
		v.forgetLocked()
		return true
	}
	v.state = idle
	// A member that moved here meanwhile may have brought a stale reason along, which ends
	// with the fetch that it is owed.
	remaining := v.stale
	if v.owed&(causeMissed|causeJoined) == 0 {
		remaining &= staleBus
	}
	if v.noteHandedOutLocked() {
		remaining |= staleLate
	}
	v.setStaleLocked(remaining)
	if v.owed == 0 {
		v.pending = nil
	} else {
		v.queueLocked(v.payerLocked())
	}
	return true
}

// handedOutAtOnce is how many members are handed an update while the view's lock is held: so
// few that the reader of the bus, which marks the view, does not wait for the fan-out.
var handedOutAtOnce = 256 // but for a test

// yieldFor is for how long a fan-out gives up its turn after each handedOutAtOnce.
const yieldFor = time.Millisecond

// deliverAll returns the members that are still to be told, where the update is one
// that ends their subscription. It is not ok where finish is not.
func (v *view) deliverAll(job fetchJob, u *Update) (refused []*subscription, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.lagsLocked(u) {
		return nil, false
	}
	v.pendingLocked().failures = 0
	v.state = delivering
	if u.Kind == KindRows && len(u.Rows) == 0 {
		// The handler had nothing to say: what waits to be written stays right.
		for _, sub := range v.members {
			if v.isAsked(sub) {
				sub.wants = wantNothing
			}
		}
		return nil, true
	}
	// From the last member to the first: one that leaves in between has the last one in its
	// place, which was handed the update already, and is not handed it again. Who joins in
	// between is owed another fetch, as in state delivering.
	begin := time.Now()
	for left := len(v.members); left > 0; {
		end := max(0, left-handedOutAtOnce)
		refused = v.deliverLocked(v.members[end:left], job.cause, u, refused)
		if left = end; left > 0 {
			v.mu.Unlock()
			// Without this the same goroutine has the lock again before another that waits. A
			// sync.Mutex hands over to one that has waited for a millisecond; by then each turn
			// that is given up on a busy machine would take longer than what is left to do.
			if time.Since(begin) < yieldFor {
				runtime.Gosched()
			}
			v.mu.Lock()
			left = min(left, len(v.members))
		}
	}
	slices.Reverse(refused) // they are told in the order in which they joined
	return refused, true
}

// deliverLocked hands some members the update, and adds those to refused that it refuses.
func (v *view) deliverLocked(members []*subscription, c cause, u *Update, refused []*subscription) []*subscription {
	for i := len(members) - 1; i >= 0; i-- {
		sub := members[i]
		due, ok := v.due(sub, c, u)
		switch {
		case !ok:
		case due.Kind == KindForbidden:
			refused = append(refused, sub)
		default:
			sub.client.sink.Push(&sub.slot, due)
		}
	}
	return refused
}

// due returns what one member is to be handed of u, and notes that it was. It is not
// ok where nothing of it is for that member.
func (v *view) due(sub *subscription, c cause, u *Update) (due *Update, ok bool) {
	if v.fetch <= sub.fetch || !v.isAsked(sub) {
		return nil, false // it has something newer, or came too late; serveLocked saw to another fetch
	}
	differs := sub.sent != u.Version
	switch {
	case c&causeNotified != 0 && (differs || !v.entity.options.OnlyDifferences):
	case sub.wants >= wantResult, sub.wants != wantNothing && differs:
	case sub.wants == wantConfirmation:
		if u.Kind == KindRows { // a version of the client's own making may be that of anything
			u = u.confirmation()
		}
	case c&(causeNotified|causeMissed|causeRefresh) != 0 && differs:
	case differs && sub.sent != (Version{}): // fetched for another member, but news to this one
	default:
		sub.wants = wantNothing
		return nil, false
	}
	sub.wants, sub.sent, sub.fetch = wantNothing, u.Version, v.fetch
	return u, true
}

// refuse tells a member that is to be told that it may not be seen, unless it has
// left since: that takes back what it was to be handed.
func (v *view) refuse(sub *subscription, u *Update) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if sub.sent != u.Version || sub.fetch != v.fetch {
		return false
	}
	sub.client.sink.Push(&sub.slot, u)
	return true
}
