package bridge

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

// deliverAll returns the members that are still to be told, where the update is one
// that ends their subscription. It is not ok where finish is not.
//
// The view's lock is held for all members. Who lets others have the view in between must ask
// for the members' scopes again: one may change meanwhile.
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
	for _, sub := range v.members {
		due, ok := v.due(sub, job.cause, u)
		switch {
		case !ok:
		case due.Kind == KindForbidden:
			refused = append(refused, sub)
		default:
			sub.client.sink.Push(&sub.slot, due)
		}
	}
	return refused, true
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
