package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/entity-sync/entity-sync/shared"
)

// fetchJob is one fetch: of a view, for a cause, with one member's secret.
type fetchJob struct {
	view   *view
	cause  cause
	secret string
}

// fetchQueue is one entity type's views waiting to be fetched, first come first
// served, and the workers that fetch them. Workers start when there is work, up
// to the entity's limit, and end when there is none.
type fetchQueue struct {
	mu      sync.Mutex // taken after a view's lock
	views   []*view
	running int
	entity  *entity
}

// push queues v. The caller holds v's lock and has set its state.
func (q *fetchQueue) push(v *view) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.views = append(q.views, v)
	if q.running < q.entity.options.Workers && q.entity.bridge.startWorker(q.work) {
		q.running++
	}
}

// pop returns the next view. Without one it returns nil, and the worker that
// asked counts as ended.
func (q *fetchQueue) pop() *view {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.views) == 0 || q.entity.bridge.ctx.Err() != nil {
		q.views = nil
		q.running--
		return nil
	}
	v := q.views[0]
	q.views[0] = nil
	q.views = q.views[1:]
	return v
}

func (q *fetchQueue) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.views)
}

func (q *fetchQueue) work() {
	for v := q.pop(); v != nil; v = q.pop() {
		v.pollSecrets()
		if job, ok := v.begin(); ok {
			q.entity.run(job)
		}
		q.entity.bridge.index.removeUnused(v)
	}
}

// run fetches and delivers.
func (e *entity) run(job fetchJob) {
	b, v := e.bridge, job.view
	rows, err := e.call(job)
	switch {
	case err == nil:
		v.finish(job, newUpdate(v.key, KindRows, rows))
	case errors.Is(err, shared.ErrNotFound):
		v.finish(job, newUpdate(v.key, KindDeleted, nil))
	case errors.Is(err, shared.ErrForbidden):
		v.finish(job, newUpdate(v.key, KindForbidden, nil))
	case b.ctx.Err() != nil:
		v.fail(job) // closing
	default:
		b.counts.failed.Add(1)
		delay := v.fail(job)
		b.log.Error("fetch failed", slog.String("entity", string(v.key.Entity)), slog.String("id", v.key.ID),
			slog.String("error", redact(err.Error(), job.secret)), slog.Duration("retry_in", delay))
	}
}

var errNotText = errors.New("the fetch handler returned a row that is not UTF-8 text")

// call runs the application's handler. A handler that outlives its deadline
// keeps its worker, so that a hanging database cannot pile up goroutines; its
// late result is discarded.
func (e *entity) call(job fetchJob) (rows [][]byte, err error) {
	ctx, cancel := context.WithTimeout(e.bridge.ctx, e.options.Timeout)
	defer cancel()
	defer func() {
		if r := recover(); r != nil {
			e.bridge.log.Error("fetch handler panicked", slog.String("entity", string(job.view.key.Entity)),
				slog.String("id", job.view.key.ID), slog.String("stack", string(debug.Stack())))
			rows, err = nil, fmt.Errorf("the fetch handler panicked: %s", describePanic(r))
		}
	}()
	rows, err = e.fetcher(ctx, job.view.key, job.secret)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("the fetch took longer than %v: %w", e.options.Timeout, err)
	}
	for _, row := range rows {
		// A text frame that is not UTF-8 would make the browser close the socket.
		if !utf8.Valid(row) {
			return nil, errNotText
		}
	}
	return rows, nil
}

// describePanic says what went wrong without showing a value that may hold a
// secret: the runtime's own errors in full, of anything else only the type.
func describePanic(r any) string {
	if err, ok := r.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("a value of type %T", r)
}

// redact keeps a secret that the application put into an error out of the log.
func redact(text, secret string) string {
	if secret == "" {
		return text
	}
	return strings.ReplaceAll(text, secret, "[redacted]")
}
