package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/entity-sync/entity-sync/internal/deadline"
	"github.com/entity-sync/entity-sync/internal/isolate"
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

// call runs the application's handler. Where it answers all jobs with one error, some of
// them may be why: it is then called with parts of the jobs.
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

// callOnce calls the handler. A handler that outlives its deadline
// keeps its worker, so that a hanging database cannot pile up goroutines; its
// late results are discarded. The errors it returns are the application's code
// as well, so they are looked at in here.
func (e *entity) callOnce(ctx context.Context, jobs []fetchJob) (outcomes []outcome) {
	defer func() {
		if r := recover(); r != nil {
			outcomes = allFailed(jobs, outcome{err: "the fetch handler panicked: " + describePanic(r), stack: debug.Stack()})
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
		return outcome{err: redact(err.Error(), job.secret.Reveal()), kind: kindOf(err)}
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

// failed counts and logs a failure: of those in a row the 1st, 2nd, 4th, 8th …,
// because a database that is down fails every fetch there is.
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

// worked ends a row of failures, and tries early what they had put off.
func (e *entity) worked() {
	for _, v := range e.retries.worked(e.failures.Swap(0)) {
		v.tryNow()
	}
}

// describePanic says what went wrong without showing a value that may hold a
// secret: the runtime's own errors in full, of anything else only the type.
func describePanic(r any) string {
	if err, ok := r.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("a value of type %T", r)
}

// redact keeps a secret that the application put into an error out of the log,
// as it is and as the usual ways of quoting it write it.
func redact(text, secret string) string {
	if secret == "" {
		return text
	}
	asJSON, err := json.Marshal(secret)
	if err != nil {
		return "[an error that may show a secret]"
	}
	unquoted := func(s string) string { return s[1 : len(s)-1] }
	forms := []string{
		secret,
		unquoted(strconv.Quote(secret)), unquoted(strconv.QuoteToASCII(secret)), unquoted(string(asJSON)),
		url.QueryEscape(secret), url.PathEscape(secret),
	}
	// The longest first: a shorter form may be a part of it.
	slices.SortFunc(forms, func(a, b string) int { return len(b) - len(a) })
	for _, form := range forms {
		text = strings.ReplaceAll(text, form, "[redacted]")
	}
	return text
}
