package deadline_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/internal/deadline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type name struct{}

// Whatever ends it, it ends at that time, for that reason, and for good; whether it
// was awaited before, is awaited through a context made of it, or is only asked.
func TestItEndsAsItsDeadlineItsParentOrItsOwnerSays(t *testing.T) {
	for what, c := range map[string]struct {
		after, deadline time.Duration
		want            error
	}{
		"the deadline":          {time.Second, time.Second, context.DeadlineExceeded},
		"the parent's deadline": {time.Millisecond, time.Millisecond, context.DeadlineExceeded},
		"the parent":            {time.Millisecond, time.Second, context.Canceled},
		"Cancel":                {time.Millisecond, time.Second, context.Canceled},
	} {
		for how, await := range map[string]func(context.Context) context.Context{
			"asked":   nil,
			"awaited": func(ctx context.Context) context.Context { return ctx },
			"awaited through a context of its own": func(ctx context.Context) context.Context {
				ctx, cancel := context.WithCancel(ctx)
				context.AfterFunc(ctx, cancel)
				return ctx
			},
		} {
			t.Run(what+" "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					parent, cancel := context.WithCancel(context.WithValue(t.Context(), name{}, "value"))
					defer cancel()
					if what == "the parent's deadline" {
						parent, cancel = context.WithTimeout(parent, c.after)
						defer cancel()
					}
					ctx := deadline.After(parent, time.Second)
					defer ctx.Cancel()
					begin := time.Now()
					switch what {
					case "the parent":
						time.AfterFunc(c.after, cancel)
					case "Cancel":
						time.AfterFunc(c.after, ctx.Cancel)
					}
					goroutines := runtime.NumGoroutine()
					if await == nil {
						time.Sleep(c.after - 1)
						if err := ctx.Err(); err != nil {
							t.Errorf("it says %v before its end", err)
						}
						time.Sleep(time.Nanosecond)
						synctest.Wait()
					} else {
						ended := await(ctx).Done()
						if got := runtime.NumGoroutine(); got > goroutines {
							t.Errorf("it takes %d goroutines to wait for it", got-goroutines)
						}
						<-ended
					}
					if took := time.Since(begin); took != c.after {
						t.Errorf("it ended after %v, want %v", took, c.after)
					}
					for range 2 {
						if err := ctx.Err(); !errors.Is(err, c.want) {
							t.Errorf("it says %v, want %v", err, c.want)
						}
						ctx.Cancel()
						<-ctx.Done()
					}
					if end, ok := ctx.Deadline(); !ok || end.Sub(begin) != c.deadline {
						t.Errorf("its deadline is after %v, want %v", end.Sub(begin), c.deadline)
					}
					if ctx.Value(name{}) != "value" {
						t.Error("it does not know its parent's value")
					}
				})
			})
		}
	}
}

// A parent's deadline that is sooner ends it as the parent's own, with its cause, and
// takes no timer beside the parent's.
func TestTheParentSaysWhyItsDeadlineEndsIt(t *testing.T) {
	cause := errors.New("the parent's deadline")
	for range 20 { // of two timers for one moment either may be first
		synctest.Test(t, func(t *testing.T) {
			parent, cancel := context.WithTimeoutCause(t.Context(), time.Second, cause)
			defer cancel()
			ctx := deadline.After(parent, time.Minute)
			defer ctx.Cancel()
			<-ctx.Done()
			if got := context.Cause(ctx); !errors.Is(got, cause) || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				t.Errorf("it ended with %v, because of %v", ctx.Err(), got)
			}
		})
	}
}

// One that nobody waits for costs no more than itself.
func TestNobodyWaiting(t *testing.T) {
	parent, cancel := context.WithCancel(context.Background())
	defer cancel()
	allocations := testing.AllocsPerRun(1000, func() {
		ctx := deadline.After(parent, time.Second)
		if ctx.Err() != nil || ctx.Value(name{}) != nil {
			t.Error("it has ended, or knows of a value")
		}
		ctx.Cancel()
	})
	if allocations > 1 {
		t.Errorf("%v allocations, want 1 at most", allocations)
	}
}
