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
	// measureInterval is the time between two measurements of the waiting rows.
	measureInterval = time.Second

	// maxCounted bounds how many rows a measurement counts of each entity type.
	maxCounted = 10_000

	// After lateAfter the log says that a row waits, at most once every warnInterval.
	lateAfter    = 10 * time.Second
	warnInterval = time.Minute
)

// lateness decides when the log says that rows wait: once a minute at most, and only if two
// measurements in a row found a late row. A row that a long transaction wrote is old when it
// is committed, and gone a moment later.
type lateness struct {
	looks int // measurements in a row that found a late row
	said  time.Time
}

// isNews reports whether to log that a row has waited for so long.
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

// lagSQL visits each entity type in the outbox once, with one look-up in the index for each. A
// row may claim to be written at any time, even infinity.
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

// measure counts the waiting rows, unless it did so less than measureInterval ago.
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
	var stranger string // the entity type of the oldest foreign row
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
	// A node that has just started may not have registered all of its types yet.
	if r.lateForeign.isNews(min(oldestForeign, now.Sub(r.started)), now) {
		r.log.Warn("the outbox holds entity types that this node has not registered, and no other node takes them",
			slog.String("entity", shorten(stranger)), slog.Duration("oldest", oldestForeign), slog.Int("waiting", foreign))
	}
	return nil
}

// shorten bounds how much of a row's text goes into the log.
func shorten(s string) string {
	if len(s) <= shared.MaxEntityTypeBytes {
		return s
	}
	return strings.ToValidUTF8(s[:shared.MaxEntityTypeBytes], "") + "…"
}
