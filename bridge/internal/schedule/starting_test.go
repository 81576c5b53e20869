package schedule_test

import (
	"testing"

	"github.com/entity-sync/entity-sync/bridge/internal/schedule"
)

// A worker counts as waiting for a processor from when its goroutine is started until it runs,
// for all schedules of its limit. A goroutine that is not to be had does not count.
func TestWorkersThatWaitForAProcessor(t *testing.T) {
	var started []func()
	refuse := false
	limit := schedule.NewLimit(2)
	newSchedule := func() *schedule.Schedule[*item] {
		s := schedule.New(schedule.Config[*item]{
			Workers: 1, BatchSize: 1, Limit: limit,
			Go: func(f func()) bool {
				if !refuse {
					started = append(started, f)
				}
				return !refuse
			},
			Fetch: func([]*item) {},
		})
		t.Cleanup(s.Close)
		return s
	}
	one, other := newSchedule(), newSchedule()
	want := func(when string, waits bool) {
		t.Helper()
		if one.LetStart() != waits || other.LetStart() != waits {
			t.Errorf("%s: want that a worker waits for a processor: %v", when, waits)
		}
	}
	want("before anything was pushed", false)
	a := &item{name: "a"}
	one.Push(&a.entry, a, schedule.Changes, 1)
	want("with a worker that was started", true)
	started[0]()
	want("with a worker that has run", false)
	refuse = true
	b := &item{name: "b"}
	other.Push(&b.entry, b, schedule.Changes, 1)
	want("without a goroutine for the worker", false)
}
