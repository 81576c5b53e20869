package bridge

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/entity-sync/entity-sync/shared"
)

// trace answers the question why a client did not get a row: a line for each fetch, at
// the debug level. None has an id, a secret or a row in it. docs/troubleshooting.md
// reads them.
type trace struct {
	entity *entity
	begin  time.Time
	by     []watching // of each fetch; the jobs themselves stay on the stack of who runs them
}

// watching says who watches a view: how many, and one whose secret it is fetched with.
type watching struct {
	session uint64
	count   int
}

// trace begins one, nil where nobody reads it.
func (e *entity) trace(jobs []fetchJob) *trace {
	if !e.bridge.log.Enabled(e.bridge.ctx, slog.LevelDebug) {
		return nil
	}
	t := &trace{e, time.Now(), make([]watching, len(jobs))}
	for i, job := range jobs {
		t.by[i] = job.view.watching(job.secret)
	}
	return t
}

func (v *view) watching(secret shared.Secret) (w watching) {
	v.lock()
	defer v.unlock()
	w.count = len(v.members)
	for _, sub := range v.members {
		if sub.secret == secret {
			w.session = sub.client.number
			break
		}
	}
	return w
}

// fetched says what the i-th of the fetches came to.
func (t *trace) fetched(i int, why cause, o outcome, dropped string) {
	if t == nil {
		return
	}
	attrs := []slog.Attr{
		slog.Uint64("session", t.by[i].session), slog.String("entity", string(t.entity.name)), slog.Int("watchers", t.by[i].count),
		slog.String("cause", why.String()), slog.String("outcome", o.name(dropped)), slog.Duration("took", time.Since(t.begin)),
	}
	if o.update != nil && o.update.Kind == KindRows {
		attrs = append(attrs, slog.Int("rows", len(o.update.Rows)), slog.Int("bytes", o.update.bytes))
	}
	if len(t.by) > 1 {
		attrs = append(attrs, slog.Int("together", len(t.by)))
	}
	if o.update == nil {
		attrs = append(attrs, slog.String("error", o.harmless()))
	}
	t.entity.bridge.log.LogAttrs(t.entity.bridge.ctx, slog.LevelDebug, "fetched", attrs...)
}

// name is one of few words.
func (o outcome) name(dropped string) string {
	switch {
	case dropped != "":
		return dropped
	case o.update == nil:
		return "failed"
	}
	switch o.update.Kind {
	case KindDeleted:
		return "not_found"
	case KindForbidden:
		return "forbidden"
	default:
		return "rows"
	}
}

// harmless says what is wrong without a word of the application's, which may quote an
// id: of its errors the type alone. Their texts are in the line "fetch failed".
func (o outcome) harmless() string {
	if o.kind != "" {
		return o.kind
	}
	return o.err
}

// kindOf names the type of an error, without what is wrapped around it.
func kindOf(err error) string {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return fmt.Sprintf("%T", err)
}

// String names why a view is fetched: the first that holds of a change, a client that
// waits for a snapshot, a change that may have been missed, and a refresh.
func (c cause) String() string {
	switch {
	case c&causeNotified != 0:
		return "changed"
	case c&causeJoined != 0:
		return "subscribed"
	case c&causeMissed != 0:
		return "looked_again"
	default:
		return "refresh"
	}
}
