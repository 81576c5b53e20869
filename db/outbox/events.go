package outbox

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/entity-sync/entity-sync/internal/sparing"
	"github.com/entity-sync/entity-sync/shared"
)

// Publisher is an Announcer that publishes events as well: a *bridge.Bridge. A relay of another
// Announcer leaves events to other relays.
type Publisher interface {
	Announcer

	// PublishEvent publishes an event to topics, or returns an error.
	PublishEvent(ctx context.Context, e shared.Event, topics ...shared.Topic) error

	// Channels returns the first segments of the topics that PublishEvent knows; "*" is all.
	Channels() []string
}

const (
	// maxEvents bounds how many events a round takes. The keys, which have their turn between
	// two rounds, wait no longer than for one event beyond maxPublishing.
	maxEvents     = 100
	maxPublishing = 100 * time.Millisecond

	// maxEventText bounds the text of a row that is read. An event is at most
	// shared.MaxEventBytes without white space, and rows may have some.
	maxEventText = 4 * shared.MaxEventBytes

	// lookInterval is how often a relay looks whether a newer version has made the table of
	// events, where an older one made the outbox.
	lookInterval = time.Second
)

// eventsTable is where events wait. It is apart from the keys', so that the right to write one
// is not the right to write the other.
const eventsTable = "entity_sync_outbox_events"

// eventRounds is what a relay remembers of its rounds of events.
type eventRounds struct {
	made   bool // the table is there
	unread bool // the database has failed the last round
	rest        // after a round that failed
}

// publishEvents publishes the events that wait, and reports whether to go on at once. Its failures are
// told and waited for apart from those of keys, which it does not hold up.
func (r *Relay) publishEvents() (again bool) {
	to, ok := r.to.(Publisher)
	if !ok || time.Now().Before(r.events.until) {
		return false
	}
	channels := to.Channels()
	if len(channels) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(r.ctx, roundTimeout)
	defer cancel()
	var failed error // the bus's
	isTurn := false  // no other relay publishes
	err := r.inTx(ctx, func(tx pgx.Tx) (err error) {
		if !r.hasEvents(ctx, tx) {
			return nil
		}
		if isTurn, err = haveTurn(ctx, tx); err != nil || !isTurn {
			return err
		}
		again, failed, err = r.eventRound(ctx, tx, to, channels)
		return err
	})
	r.events.unread = err != nil
	if err == nil {
		err = failed
	}
	if err != nil || isTurn { // otherwise nothing is known of how it would have gone
		r.tellEvents(err)
	}
	return again && err == nil
}

// hasEvents reports whether there is a table of events.
func (r *Relay) hasEvents(ctx context.Context, tx pgx.Tx) bool {
	if r.events.made {
		return true
	}
	err := tx.QueryRow(ctx, "select to_regclass($1) is not null", eventsTable).Scan(&r.events.made)
	if err != nil || !r.events.made {
		r.events.until = time.Now().Add(lookInterval)
		return false
	}
	return true
}

// haveTurnSQL reports whether no other relay has its turn. The lock ends with the transaction,
// which PostgreSQL ends for a relay that is cut off meanwhile.
const haveTurnSQL = `select pg_try_advisory_xact_lock(731141610, $1::text::regclass::oid::int)
	from set_config('idle_in_transaction_session_timeout', '15s', true)`

// haveTurn reports whether this relay may publish. One relay at a time has its turn, because several
// would publish in any order.
func haveTurn(ctx context.Context, tx pgx.Tx) (is bool, err error) {
	err = tx.QueryRow(ctx, haveTurnSQL, eventsTable).Scan(&is)
	return is, err
}

// eventRound publishes some events, and removes those that the bus has taken.
func (r *Relay) eventRound(ctx context.Context, tx pgx.Tx, to Publisher, channels []string) (again bool, failed, err error) {
	limit := min(r.config.BatchSize, maxEvents)
	waiting, err := readEvents(ctx, tx, channels, limit)
	if err != nil || len(waiting) == 0 {
		return false, nil, err
	}
	done, bad, failed := publishAll(ctx, to, waiting)
	if err := removeEvents(ctx, tx, waiting[:done]); err != nil {
		return false, failed, err
	}
	if err := commit(ctx, tx); err != nil {
		return false, failed, err
	}
	r.countEvents(done-bad, bad)
	return done < len(waiting) || len(waiting) == limit, failed, nil
}

// waitingEvent is a row of the outbox.
type waitingEvent struct {
	channel, topic string
	event          *string // nil if it is too long to be one
	entry          int64
}

// readEventsSQL reads the first events of all the channels together. Channels that are not
// asked for are in no way: each channel has its part of the index.
const readEventsSQL = `with recursive present (channel) as (
		(select channel from entity_sync_outbox_events order by channel limit 1)
		union all
		select (select o.channel from entity_sync_outbox_events o where o.channel > present.channel order by o.channel limit 1)
		from present where present.channel is not null
	), first (channel, entry) as (
		select waiting.channel, waiting.entry
		from (select channel from present where channel is not null and ($1 or channel = any ($2::text[])) limit 1000) as known
		cross join lateral (
			select channel, entry from entity_sync_outbox_events o where o.channel = known.channel order by entry limit $3
		) as waiting
		order by entry limit $3
	)
	select o.channel, left(o.topic, 256), case when octet_length(o.event::text) <= $4 then o.event::text end, o.entry
	from first join entity_sync_outbox_events o using (channel, entry) order by o.entry`

func readEvents(ctx context.Context, tx pgx.Tx, channels []string, limit int) (waiting []waitingEvent, err error) {
	all := slices.Contains(channels, "*")
	rows, err := tx.Query(ctx, readEventsSQL, all, channels, limit, maxEventText)
	if err != nil {
		return nil, err
	}
	var e waitingEvent
	_, err = pgx.ForEachRow(rows, []any{&e.channel, &e.topic, &e.event, &e.entry}, func() error {
		waiting = append(waiting, e)
		return nil
	})
	return waiting, err
}

// publishAll publishes events in their order until one fails, or until it has taken its time. It
// returns how many are done with, and how many of these can never be published.
func publishAll(ctx context.Context, to Publisher, waiting []waitingEvent) (done, bad int, err error) {
	begin := time.Now()
	for _, w := range waiting {
		if done > 0 && time.Since(begin) >= maxPublishing {
			return done, bad, nil
		}
		err := w.publish(ctx, to)
		switch {
		case err == nil:
		case errors.Is(err, shared.ErrBadTopic), errors.Is(err, shared.ErrBadEvent), errors.Is(err, shared.ErrTooLarge):
			bad++
		default:
			return done, bad, err
		}
		done++
	}
	return done, bad, nil
}

func (w *waitingEvent) publish(ctx context.Context, to Publisher) error {
	if w.event == nil {
		return shared.ErrTooLarge
	}
	e, err := shared.ParseEvent([]byte(*w.event))
	if err != nil {
		return err
	}
	return to.PublishEvent(ctx, e, shared.Topic(w.topic))
}

func removeEvents(ctx context.Context, tx pgx.Tx, done []waitingEvent) error {
	channels, entries := make([]string, len(done)), make([]int64, len(done))
	for i, w := range done {
		channels[i], entries[i] = w.channel, w.entry
	}
	_, err := tx.Exec(ctx, `delete from entity_sync_outbox_events o using unnest($1::text[], $2::bigint[]) as done (channel, entry)
		where o.channel = done.channel and o.entry = done.entry`, channels, entries)
	return err
}

// countEvents adds events that are done with to the figures.
func (r *Relay) countEvents(good, bad int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.stats.Bad
	r.stats.Published += uint64(good) //nolint:gosec // a length
	r.stats.Bad += uint64(bad)        //nolint:gosec // a length
	if sparing.SaysBetween(before, r.stats.Bad) {
		r.log.Warn("the outbox held what is no event: it was removed", slog.Uint64("so_far", r.stats.Bad))
	}
}

// tellEvents notes how a round of events ended, logs it if that is news, and has the next round
// wait after a failure.
func (r *Relay) tellEvents(err error) {
	if err == nil {
		if r.events.failures > 0 {
			r.log.Info("events of the outbox are relayed again", slog.Int("failures", r.events.failures))
			r.events.failures = 0
			r.countWell()
		}
		return
	}
	if r.stopping.Err() != nil {
		return
	}
	n := r.events.failures + 1
	r.events.rest = rest{n, time.Now().Add(retry.Delay(n))}
	r.countFailure()
	if !sparing.Says(uint64(n)) {
		return
	}
	attrs := []any{slog.Int("in_a_row", n), slog.Any("error", err)}
	if remedy := r.remedy(err, eventsTable, eventRights); remedy != "" {
		r.log.Error("events of the outbox cannot be relayed", append(attrs, slog.String("remedy", remedy))...)
		return
	}
	r.log.Warn("relaying events of the outbox failed", attrs...)
}

// countWell notes that nothing fails any more, where that is so.
func (r *Relay) countWell() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.resting) == 0 && r.failures == 0 {
		r.stats.Failing = 0
	}
}
