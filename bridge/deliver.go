package bridge

import (
	"log/slog"
	"time"
)

// finish hands the result of the fetch in flight to the present members, and queues the view
// again if it was marked since the fetch began. It returns false, having done nothing, if the
// result is older than a result that was handed out before.
//
// The view's lock is held for all members. Code that lets others have the view in between must
// ask for the members' scopes again, because a scope may change meanwhile.
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

// pushesAtOnce is the number of pushes after which handOutLocked looks whether the fetch of
// another view waits for a processor.
const pushesAtOnce = 256

// handOutLocked pushes u to the members that u is for. A member that u refuses is no member any
// more when handOutLocked returns.
//
// A fan-out to many members lets waiting fetches go first, so that a key that changes without
// pause does not hold up the others where processors are few. It does so once, because each
// time the members wait for everything else that wants the processor.
func (v *view) handOutLocked(c cause, u *Update) {
	if u.Kind == KindRows && len(u.Rows) == 0 {
		v.handOutEmptyLocked(u)
		return
	}
	for i, yielded := 0, false; i < len(v.members); {
		if i%pushesAtOnce == pushesAtOnce-1 && !yielded {
			yielded = v.entity.schedule.LetStart()
		}
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

// handOutEmptyLocked is handOutLocked for a result without rows. An update that waits to be
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

// refuseLocked tells a member that it may not see the key, and ends its membership. The refusal
// is counted first, so that a client which asks for another key as soon as it is told has room.
func (v *view) refuseLocked(sub *subscription, u *Update) {
	v.entity.bridge.counts.subscriptions.Add(-1)
	sub.client.refused.Add(1)
	sub.client.sink.Push(&sub.slot, u)
	v.removeLocked(sub)
	sub.client.addStale(-v.stale.count())
}

// finishedLocked ends a fetch whose result was handed out.
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

// due returns what one member is to be handed of u, and notes that the member has it. ok is
// false if nothing of u is for that member.
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

const (
	// lagPatience is how long a revision that is lower than the one handed out, and stays the
	// same, is taken for a read that lags. After that the revision is what there is: a backup
	// was restored, a standby that had not received everything was promoted, or a row was
	// deleted and made anew in one transaction.
	lagPatience = 30 * time.Second

	// catchUpPatience is how long lower revisions that differ are taken for reads that lag:
	// each read is nearer to the newest.
	catchUpPatience = 5 * time.Minute
)

// lag is what a view remembers of results with lower revisions than the one that it handed out.
type lag struct {
	revision     int64 // of the last one
	since, began time.Time
}

// lagsLocked reports whether a result is to be dropped, because a newer result was handed out.
// If not, lagsLocked notes the result's revision.
func (v *view) lagsLocked(u *Update) bool {
	if u.revision > 0 && u.revision < v.revision {
		e, now := v.pendingLocked(), time.Now()
		if e.lag == nil {
			e.lag = &lag{began: now}
		}
		if e.lag.revision != u.revision {
			e.lag.revision, e.lag.since = u.revision, now
		}
		if now.Sub(e.lag.since) < lagPatience && now.Sub(e.lag.began) < catchUpPatience {
			v.serveFirstLocked(u)
			return true
		}
		v.wentBackLocked(u.revision)
	}
	if u.revision > 0 || u.Kind == KindDeleted {
		v.revision = u.revision // zero: a row that comes back begins anew
	}
	if v.pending != nil {
		v.pending.lag = nil
	}
	return false
}

// serveFirstLocked hands an older result to the members that have nothing. The view stays
// stale, and the next result is for these members, too.
func (v *view) serveFirstLocked(u *Update) {
	if u.Kind == KindRows && len(u.Rows) == 0 {
		return
	}
	for _, sub := range v.members {
		if sub.wants == wantFirst && sub.fetch == 0 && v.isAsked(sub) {
			sub.wants, sub.sent, sub.fetch = wantDifference, u.Version, v.fetch
			sub.client.sink.Push(&sub.slot, u)
		}
	}
}

// wentBackLocked says in the log that a revision went back for good. It does so the 1st, 2nd,
// 4th, 8th … time for an entity type, because a restored backup takes all revisions back.
func (v *view) wentBackLocked(to int64) {
	if n, say := v.entity.wentBack.Again(); say {
		v.entity.bridge.log.Warn("a revision went back and stays there: the older row is handed out",
			slog.String("entity", string(v.entity.name)), slog.String("id", v.id),
			slog.Int64("from", v.revision), slog.Int64("to", to), slog.Uint64("so_far", n))
	}
}
