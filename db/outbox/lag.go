package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
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

// lagSQL visits each entity type in the outbox once, or each channel, with one look-up in the
// index for each. A row may claim to be written at any time, even infinity.
const lagSQL = `with recursive types (name) as (
		(select %[2]s from %[1]s order by %[2]s limit 1)
		union all
		select (select o.%[2]s from %[1]s o where o.%[2]s > types.name order by o.%[2]s limit 1)
		from types where types.name is not null
	)
	select left(name, 65), counted, age
	from (select name from types where name is not null limit 1000) as waiting cross join lateral (
		select count(*), least(greatest(extract(epoch from clock_timestamp())::float8 - extract(epoch from min(written))::float8, 0), 1e9)
		from (select written from %[1]s o where o.%[2]s = waiting.name order by entry limit $1) as first
	) as figures (counted, age)`

var (
	lagOfKeys   = fmt.Sprintf(lagSQL, "entity_sync_outbox", "entity")
	lagOfEvents = fmt.Sprintf(lagSQL, eventsTable, "channel")
)

// lag is what waits in the outbox.
type lag struct {
	waiting, foreign      int
	oldest, oldestForeign time.Duration
	stranger              slog.Attr // the entity type or the channel of the oldest foreign row
}

// measure counts the waiting rows, unless it did so less than measureInterval ago.
func (r *Relay) measure() error {
	now := time.Now()
	if now.Sub(r.measured) < measureInterval {
		return nil
	}
	r.measured = now
	var l lag
	types := r.to.EntityTypes()
	if err := r.add(&l, lagOfKeys, "entity", func(name string) bool { return slices.Contains(types, shared.EntityType(name)) }); err != nil {
		return err
	}
	if to, ok := r.to.(Publisher); ok && r.events.made && !r.events.unread {
		channels := to.Channels()
		known := func(name string) bool { return slices.Contains(channels, name) || slices.Contains(channels, "*") }
		if err := r.add(&l, lagOfEvents, "channel", known); err != nil {
			r.tellEvents(err)
		}
	}
	r.noteLag(l, now)
	return nil
}

// add adds what waits in one table of the outbox.
func (r *Relay) add(l *lag, query, what string, known func(name string) bool) error {
	ctx, cancel := context.WithTimeout(r.ctx, roundTimeout)
	defer cancel()
	var name string
	var counted int
	var age float64
	return r.inTx(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, query, maxCounted)
		if err != nil {
			return err
		}
		_, err = pgx.ForEachRow(rows, []any{&name, &counted, &age}, func() error {
			waited := time.Duration(age * float64(time.Second))
			if known(name) {
				l.waiting += counted
				l.oldest = max(l.oldest, waited)
				return nil
			}
			l.foreign += counted
			if waited >= l.oldestForeign {
				l.oldestForeign, l.stranger = waited, slog.String(what, shorten(name))
			}
			return nil
		})
		return err
	})
}

// noteLag has the figures and the log say what waits.
func (r *Relay) noteLag(l lag, now time.Time) {
	r.mu.Lock()
	r.stats.Waiting, r.stats.Oldest, r.stats.Foreign = l.waiting, l.oldest, l.foreign
	r.mu.Unlock()
	if r.late.isNews(l.oldest, now) {
		r.log.Warn("the outbox is behind", slog.Duration("oldest", l.oldest), slog.Int("waiting", l.waiting))
	}
	if r.started.IsZero() {
		r.started = now
	}
	// A node that has just started may not have registered all of its types yet.
	if r.lateForeign.isNews(min(l.oldestForeign, now.Sub(r.started)), now) {
		r.log.Warn("the outbox holds entity types or channels that this node has not registered, and no other node takes them",
			l.stranger, slog.Duration("oldest", l.oldestForeign), slog.Int("waiting", l.foreign))
	}
}

// shorten bounds how much of a row's text goes into the log.
func shorten(s string) string {
	if len(s) <= shared.MaxEntityTypeBytes {
		return s
	}
	return strings.ToValidUTF8(s[:shared.MaxEntityTypeBytes], "") + "…"
}
