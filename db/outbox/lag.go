package outbox

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/entity-sync/entity-sync/shared"
)

const (
	// measureInterval is between two looks at how much waits.
	measureInterval = time.Second

	// maxCounted bounds what a look costs when very much waits.
	maxCounted = 10_000

	// lateAfter is when the log says that something waits, warnInterval how often.
	lateAfter    = 10 * time.Second
	warnInterval = time.Minute
)

// lateness says in the log that something waits, once a minute at most, and only
// if two looks in a row found it: what a long transaction wrote is old when it is
// committed, and gone a moment later.
type lateness struct {
	looks int // in a row that found a row waiting for too long
	said  time.Time
}

// isNews reports whether to say that a row has waited for so long.
func (l *lateness) isNews(waited time.Duration, now time.Time) bool {
	if waited <= lateAfter {
		l.looks = 0
		return false
	}
	l.looks++
	if l.looks < 2 || now.Sub(l.said) < warnInterval {
		return false
	}
	l.said = now
	return true
}

// lagSQL visits each entity type once, whichever there are, with a look-up in the
// index for each. An entry may say that it was written at any time, infinity too.
const lagSQL = `with recursive types (entity) as (
		(select entity from entity_sync_outbox order by entity limit 1)
		union all
		select (select o.entity from entity_sync_outbox o where o.entity > types.entity order by o.entity limit 1)
		from types where types.entity is not null
	)
	select left(entity, 65), counted, age
	from (select entity from types where entity is not null limit 1000) as waiting cross join lateral (
		select count(*), least(greatest(extract(epoch from clock_timestamp())::float8 - extract(epoch from min(written))::float8, 0), 1e9)
		from (select written from entity_sync_outbox o where o.entity = waiting.entity order by entry limit $1) as first
	) as figures (counted, age)`

// measure looks at how much waits, if the last look was a second ago.
func (r *Relay) measure() error {
	now := time.Now()
	if now.Sub(r.measured) < measureInterval {
		return nil
	}
	r.measured = now
	ctx, cancel := context.WithTimeout(r.ctx, roundTimeout)
	defer cancel()
	known := make(map[shared.EntityType]bool)
	for _, entity := range r.to.EntityTypes() {
		known[entity] = true
	}
	var waiting, foreign int
	var oldest, oldestForeign time.Duration
	var stranger string // the entity type of the latter
	var entity string
	var counted int
	var age float64
	err := r.inTx(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, lagSQL, maxCounted)
		if err != nil {
			return err
		}
		_, err = pgx.ForEachRow(rows, []any{&entity, &counted, &age}, func() error {
			waited := time.Duration(age * float64(time.Second))
			if known[shared.EntityType(entity)] {
				waiting += counted
				oldest = max(oldest, waited)
				return nil
			}
			foreign += counted
			if waited >= oldestForeign {
				oldestForeign, stranger = waited, entity
			}
			return nil
		})
		return err
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.stats.Waiting, r.stats.Oldest, r.stats.Foreign = waiting, oldest, foreign
	r.mu.Unlock()
	if r.late.isNews(oldest, now) {
		r.log.Warn("the outbox is behind", slog.Duration("oldest", oldest), slog.Int("waiting", waiting))
	}
	if r.started.IsZero() {
		r.started = now
	}
	// A node that has just begun may not have come to register all of its types.
	if r.lateForeign.isNews(min(oldestForeign, now.Sub(r.started)), now) {
		r.log.Warn("the outbox holds entity types that this node has not registered, and no other node takes them",
			slog.String("entity", shorten(stranger)), slog.Duration("oldest", oldestForeign), slog.Int("waiting", foreign))
	}
	return nil
}

// shorten bounds what a stranger can put into the log.
func shorten(s string) string {
	if len(s) <= shared.MaxEntityTypeBytes {
		return s
	}
	return strings.ToValidUTF8(s[:shared.MaxEntityTypeBytes], "") + "…"
}
