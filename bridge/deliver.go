package bridge

// finish hands the result of the fetch in flight to the members there are now,
// and queues the view again if it was marked since the fetch began. It returns
// false, having done nothing, where the result is older than one handed out
// before.
//
// The view's lock is held for all members. Who lets others have the view in between must ask
// for the members' scopes again: one may change meanwhile.
func (v *view) finish(job fetchJob, u *Update) (ok bool) {
	v.lock()
	defer v.unlock()
	if v.lagsLocked(u) {
		return false
	}
	v.pendingLocked().failures = 0
	v.handOutLocked(job.cause, u)
	v.finishedLocked()
	return true
}

// handOutLocked pushes u to the members that it is for. Those that it refuses are
// members no more when others have the view's lock.
func (v *view) handOutLocked(c cause, u *Update) {
	if u.Kind == KindRows && len(u.Rows) == 0 {
		v.handOutEmptyLocked(u)
		return
	}
	for i := 0; i < len(v.members); {
		sub := v.members[i]
		due, ok := v.due(sub, c, u)
		switch {
		case !ok:
			i++
		case due.Kind == KindForbidden:
			v.refuseLocked(sub, due) // another member takes its place
		default:
			sub.client.sink.Push(&sub.slot, due)
			i++
		}
	}
}

// handOutEmptyLocked is handOutLocked for a handler that had nothing to say: what waits to be
// written stays right.
func (v *view) handOutEmptyLocked(u *Update) {
	for _, sub := range v.members {
		if !v.isAsked(sub) {
			continue
		}
		sub.wants = wantNothing
		if sink, ok := sub.client.sink.(EmptySink); ok {
			sink.PushEmpty(&sub.slot, u)
		}
	}
}

// refuseLocked tells a member that it may not see the key, and ends its membership. It is
// counted first: a client that asks for another key as soon as it is told has room.
func (v *view) refuseLocked(sub *subscription, u *Update) {
	v.entity.bridge.counts.subscriptions.Add(-1)
	sub.client.refused.Add(1)
	sub.client.sink.Push(&sub.slot, u)
	v.removeLocked(sub)
	sub.client.addStale(-v.stale.count())
}

// finishedLocked ends the fetch whose result was handed out.
func (v *view) finishedLocked() {
	defer v.becameLocked(v.state, eventHandedOut)
	if len(v.members) == 0 {
		v.forgetLocked()
		return
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
