package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"
	"unicode/utf8"

	"github.com/entity-sync/entity-sync/internal/deadline"
	"github.com/entity-sync/entity-sync/internal/isolate"
	"github.com/entity-sync/entity-sync/internal/redact"
	"github.com/entity-sync/entity-sync/internal/sparing"
	"github.com/entity-sync/entity-sync/shared"
)

// fetchJob is one fetch: of a view, for a cause, with one member's secret.
type fetchJob struct {
	view   *view
	cause  cause
	secret shared.Secret
}

// eachByItself makes a BatchFetcher of a Fetcher, for batches of one.
func eachByItself(fetch shared.Fetcher) shared.BatchFetcher {
	return func(ctx context.Context, requests []shared.FetchRequest) []shared.FetchResult {
		results := make([]shared.FetchResult, len(requests))
		for i, r := range requests {
			results[i].Rows, results[i].Err = fetch(ctx, r.Key, r.Secret.Reveal())
		}
		return results
	}
}

// fetchViews fetches what a worker has taken from the schedule.
func (e *entity) fetchViews(views []*view) {
	defer func() {
		for _, v := range views {
			e.index.removeUnused(v)
		}
	}()
	jobs, left := make([]fetchJob, 0, len(views)), views
	defer func() {
		if len(left) > 0 { // a scope function has ended its goroutine, which is this one
			for _, v := range left {
				v.failToBegin()
			}
			for _, job := range jobs {
				e.settle(job, outcome{err: "the scope function ended its goroutine"})
			}
		}
	}()
	for i, v := range views {
		left = views[i:]
		if job, ok := v.begin(); ok {
			jobs = append(jobs, job)
		} else { // all its members may have moved; what is fetched with it may take long
			e.index.removeUnused(v)
		}
	}
	left = nil
	if len(jobs) > 0 {
		e.run(jobs)
	}
}

// run fetches the jobs together and delivers each result.
func (e *entity) run(jobs []fetchJob) {
	settled, trace := 0, e.trace(jobs)
	defer func() {
		// A handler that ends its goroutine (runtime.Goexit) leaves jobs behind.
		for i := settled; i < len(jobs); i++ {
			o := outcome{err: "the fetch handler ended its goroutine"}
			trace.fetched(i, jobs[i].cause, o, e.settle(jobs[i], o))
		}
	}()
	for i, o := range e.call(jobs) {
		settled++
		trace.fetched(i, jobs[i].cause, o, e.settle(jobs[i], o))
	}
}

// outcome is what a fetch came to: an update, or why there is none.
type outcome struct {
	update *Update
	err    string
	kind   string // of an error that is the application's, which may quote anything
	stack  []byte // where the handler panicked
	final  bool   // the handler is wrong, whatever it is asked for

	rescoped bool // the secret had another scope meanwhile
}

// settle does what the outcome of one job asks for. It returns why an update was not
// handed out, if it was not.
func (e *entity) settle(job fetchJob, o outcome) (dropped string) {
	defer e.running.Add(-1)
	if o.update == nil {
		delay := job.view.fail(job)
		if e.bridge.ctx.Err() == nil {
			e.failed(job, o, delay)
		}
		return ""
	}
	e.worked()
	ours := job.view.ask(job)
	switch {
	case !ours || o.rescoped:
		job.view.startOver(job)
		return "rescoped"
	case job.view.finish(job, o.update):
		return ""
	default: // something newer was handed out
		e.bridge.counts.lagged.Add(1)
		job.view.fail(job)
		return "lagged"
	}
}

// call runs the application's handler. If the handler answers all jobs with one error, a few of
// the jobs may be the cause: call then runs the handler with parts of the jobs.
func (e *entity) call(jobs []fetchJob) (outcomes []outcome) {
	ctx := deadline.After(e.bridge.ctx, e.options.Timeout)
	defer ctx.Cancel()
	outcomes = e.callOnce(ctx, jobs)
	if e.options.Precise || len(jobs) == 1 || !failedAlike(outcomes) {
		return outcomes
	}
	all := make([]int, len(jobs))
	for i := range all {
		all[i] = i
	}
	rescoped := make([]bool, len(jobs))
	isolate.Each(ctx, all, func(part []int) bool {
		first, end := part[0], part[len(part)-1]+1
		e.noteRescoped(jobs[first:end], rescoped[first:end])
		copy(outcomes[first:end], e.callOnce(ctx, jobs[first:end]))
		e.noteRescoped(jobs[first:end], rescoped[first:end])
		return !failedAlike(outcomes[first:end])
	})
	for i := range outcomes {
		outcomes[i].rescoped = rescoped[i]
	}
	return outcomes
}

// failedAlike reports whether the handler gave every job the same error.
func failedAlike(outcomes []outcome) bool {
	for _, o := range outcomes {
		if o.update != nil || o.err != outcomes[0].err || o.final {
			return false
		}
	}
	return true
}

// callOnce calls the handler. A handler that outlives its deadline keeps its worker, so that a
// hanging database cannot pile up goroutines. The late results are discarded. The errors that
// the handler returns are the application's code as well, so callOnce reads them in here.
func (e *entity) callOnce(ctx context.Context, jobs []fetchJob) (outcomes []outcome) {
	defer func() {
		if r := recover(); r != nil {
			outcomes = allFailed(jobs, outcome{err: "the fetch handler panicked: " + redact.Panic(r), stack: debug.Stack()})
		}
	}()
	requests := make([]shared.FetchRequest, len(jobs))
	for i, job := range jobs {
		requests[i] = shared.FetchRequest{Key: job.view.key(), Secret: job.secret}
	}
	results := e.fetch(ctx, requests)
	if len(results) != len(jobs) {
		return allFailed(jobs, outcome{err: fmt.Sprintf("the batch fetch handler returned %d results for %d requests", len(results), len(jobs)), final: true})
	}
	if ctx.Err() != nil {
		return allFailed(jobs, outcome{err: fmt.Sprintf("the fetch took longer than %v", e.options.Timeout)})
	}
	for i, result := range results {
		outcomes = append(outcomes, e.judge(jobs[i], result))
	}
	return outcomes
}

func (e *entity) judge(job fetchJob, result shared.FetchResult) outcome {
	key, err := job.view.key(), result.Err
	switch {
	case err == nil:
	case errors.Is(err, shared.ErrNotFound):
		return outcome{update: newUpdate(key, KindDeleted, job.view.scope(), result)}
	case errors.Is(err, shared.ErrForbidden):
		return outcome{update: newUpdate(key, KindForbidden, job.view.scope(), shared.FetchResult{})}
	default:
		return outcome{err: redact.Text(err.Error(), job.secret.Reveal()), kind: kindOf(err)}
	}
	size := 0
	for _, row := range result.Rows {
		if size += len(row); size > e.options.MaxBytes {
			return outcome{err: fmt.Sprintf("the fetch handler returned more than the %d bytes allowed", e.options.MaxBytes)}
		}
		// A text frame that is not UTF-8 would make the browser close the socket.
		if !utf8.Valid(row) {
			return outcome{err: "the fetch handler returned a row that is not UTF-8 text"}
		}
	}
	return outcome{update: newUpdate(key, KindRows, job.view.scope(), result)}
}

func allFailed(jobs []fetchJob, o outcome) []outcome {
	outcomes := make([]outcome, len(jobs))
	for i := range outcomes {
		outcomes[i] = o
	}
	return outcomes
}

// failed counts and logs a failure. Of failures in a row it logs the 1st, 2nd, 4th, 8th …,
// because every fetch fails while a database is down.
func (e *entity) failed(job fetchJob, o outcome, retryIn time.Duration) {
	e.bridge.counts.failed.Add(1)
	n := e.failures.Add(1)
	if !sparing.Says(n) {
		return
	}
	attrs := []any{
		slog.String("entity", string(e.name)), slog.String("id", job.view.id), slog.String("error", o.err),
		slog.Uint64("in_a_row", n), slog.Duration("retry_in", retryIn),
	}
	if o.stack != nil {
		attrs = append(attrs, slog.String("stack", string(o.stack)))
	}
	e.bridge.log.Error("fetch failed", attrs...)
}

// worked ends a row of failures, and ends the waits that the failures had caused.
func (e *entity) worked() {
	e.schedule.Succeeded(e.failures.Swap(0))
}

// trace answers the question why a client did not get a row. It writes a line for each fetch,
// at the debug level. No line has an id, a secret or a row in it. docs/troubleshooting.md
// explains the lines.
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

// trace returns a new trace, or nil if the debug level is off.
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

// name returns one of a few words for the outcome.
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

// harmless says what is wrong without a word of the application's, because such a word may
// quote an id. Of an application's error harmless gives the type alone. The line "fetch failed"
// has the error's text.
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
