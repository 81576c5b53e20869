package bridge

import (
	"log/slog"
	"time"
)

const (
	// lagPatience is how long one and the same revision that is lower than what was
	// handed out is taken for a read that lags. After that it is what there is: a backup
	// was restored, a standby that had not got everything was promoted, or a row was
	// deleted and made anew in one transaction.
	lagPatience = 30 * time.Second

	// catchUpPatience is that for lower revisions that differ: whatever is read is
	// coming nearer.
	catchUpPatience = 5 * time.Minute
)

// lag is what a view remembers of reads with lower revisions than what it handed out.
type lag struct {
	revision     int64 // of the last one
	since, began time.Time
}

// lagsLocked reports whether a result is to be dropped for a newer one that was handed
// out. It notes the revision otherwise.
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

// serveFirstLocked hands what others are too new for to the members that have nothing.
// The view stays stale, and what is fetched next is theirs, too.
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

// wentBackLocked says in the log that a revision went back for good: of an entity type
// the 1st, 2nd, 4th, 8th … time, because a backup takes all of them back.
func (v *view) wentBackLocked(to int64) {
	if n, say := v.entity.wentBack.Again(); say {
		v.entity.bridge.log.Warn("a revision went back and stays there: the older row is handed out",
			slog.String("entity", string(v.entity.name)), slog.String("id", v.id),
			slog.Int64("from", v.revision), slog.Int64("to", to), slog.Uint64("so_far", n))
	}
}
