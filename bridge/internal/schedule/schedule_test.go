package schedule_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/entity-sync/entity-sync/bridge/internal/schedule"
	"github.com/entity-sync/entity-sync/internal/workerpool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// item is a value of the tests: what package bridge calls a view.
type item struct {
	name  string
	mu    sync.Mutex // as a view's: held where the entry is given away
	entry schedule.Entry[*item]
}

// rig is a Schedule and what it has called.
type rig struct {
	*schedule.Schedule[*item]
	pool workerpool.Pool

	mu      sync.Mutex
	fetched []string // names of the items, in the order in which they were fetched
	batches []int    // and how many at once
	retried []string
	late    []string
	began   time.Time
	when    []time.Duration // of each of retried and late, from the beginning
}

// newRig fills in what c leaves open. fetch is called before the items count as fetched; it may
// be nil.
func newRig(t *testing.T, c schedule.Config[*item], fetch func([]*item)) *rig {
	r := &rig{began: time.Now()}
	if c.Workers == 0 {
		c.Workers = 1
	}
	if c.BatchSize == 0 {
		c.BatchSize = 1
	}
	if c.Limit == nil {
		c.Limit = schedule.NewLimit(c.Workers)
	}
	c.Go = r.pool.Go
	c.Fetch = func(items []*item) {
		if fetch != nil {
			fetch(items)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.batches = append(r.batches, len(items))
		for _, i := range items {
			r.fetched = append(r.fetched, i.name)
		}
	}
	c.Retry = func(i *item) { r.note(&r.retried, i) }
	c.Late = func(i *item) { r.note(&r.late, i) }
	r.Schedule = schedule.New(c)
	t.Cleanup(r.close)
	return r
}

func (r *rig) close() {
	r.Close()
	_ = r.pool.Close(context.Background())
}

func (r *rig) note(to *[]string, i *item) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*to = append(*to, i.name)
	r.when = append(r.when, time.Since(r.began))
}

func (r *rig) push(i *item, to schedule.Lane, client uint64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	r.Push(&i.entry, i, to, client)
}

func (r *rig) want(t *testing.T, what string, list *[]string, want ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(*list, want) {
		t.Errorf("%s: %q, want %q", what, *list, want)
	}
}

// count is how many were fetched.
func (r *rig) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.fetched)
}

func items(prefix string, n int) (list []*item) {
	for i := range n {
		list = append(list, &item{name: fmt.Sprint(prefix, i)})
	}
	return list
}

// A change goes before a snapshot, and both before a repair; but each lane has one of eight
// turns.
func TestLanesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, schedule.Config[*item]{}, nil)
		r.Hold()
		for _, lane := range []struct {
			name string
			lane schedule.Lane
		}{{"repair", schedule.Repairs}, {"snapshot", schedule.Snapshots}, {"change", schedule.Changes}} {
			for _, i := range items(lane.name, 8) {
				r.push(i, lane.lane, 1)
			}
		}
		if n := r.Len(); n != 24 {
			t.Errorf("%d values wait, want 24", n)
		}
		r.Release()
		synctest.Wait()
		if n := r.count(); n != 24 || r.Len() != 0 {
			t.Fatalf("%d were fetched and %d wait, want all of 24", n, r.Len())
		}
		first := r.fetched[:8]
		r.want(t, "the first turns", &first, "change0", "change1", "snapshot0", "change2", "change3", "change4", "repair0", "change5")
	})
}

// A value waits once, in the best lane that it was pushed to.
func TestAValueWaitsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, schedule.Config[*item]{BatchSize: 10}, nil)
		r.Hold()
		a, b, c := &item{name: "a"}, &item{name: "b"}, &item{name: "c"}
		r.push(a, schedule.Repairs, 1)
		r.push(b, schedule.Snapshots, 1)
		r.push(c, schedule.Repairs, 1)
		r.push(a, schedule.Changes, 1)
		r.push(a, schedule.Repairs, 1)
		if !r.Remove(&c.entry) || r.Remove(&c.entry) {
			t.Error("a value that waits is not removed, or twice")
		}
		r.Release()
		synctest.Wait()
		r.want(t, "fetched", &r.fetched, "a", "b")
	})
}

// Workers start up to the limit of the schedule, and batches as large as they may be.
func TestWorkersAndBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		r := newRig(t, schedule.Config[*item]{Workers: 3, BatchSize: 4}, func([]*item) { <-gate })
		r.Hold()
		for _, i := range items("", 20) {
			r.push(i, schedule.Changes, 1)
		}
		r.Release()
		synctest.Wait()
		if n := r.Len(); n != 8 { // three batches of four are being fetched
			t.Errorf("%d wait while all workers are busy, want 8", n)
		}
		close(gate)
		synctest.Wait()
		if want := []int{4, 4, 4, 4, 4}; !slices.Equal(r.batches, want) {
			t.Errorf("batches of %v, want %v", r.batches, want)
		}
	})
}

// Repairs have a quarter of the workers, however many wait.
func TestRepairsHaveAQuarterOfTheWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		r := newRig(t, schedule.Config[*item]{Workers: 8}, func([]*item) { <-gate })
		for _, i := range items("", 20) {
			r.push(i, schedule.Repairs, 1)
		}
		synctest.Wait()
		if n := r.Len(); n != 18 {
			t.Errorf("%d repairs wait while two of eight workers may repair, want 18", n)
		}
		r.push(&item{name: "change"}, schedule.Changes, 1)
		synctest.Wait()
		if n := r.Len(); n != 18 {
			t.Errorf("%d values wait, want 18: a change has a worker beside the repairs", n)
		}
		close(gate)
		synctest.Wait()
		if n := r.count(); n != 21 {
			t.Errorf("%d were fetched, want 21", n)
		}
	})
}

// So many repairs a second begin, and the last one without another push.
func TestRepairRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, schedule.Config[*item]{Workers: 8, RepairRate: 50}, nil)
		for _, i := range items("", 200) {
			r.push(i, schedule.Repairs, 1)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := r.count(); n < 45 || n > 55 {
			t.Errorf("%d repairs began in a second, want 50 or so", n)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if n := r.count(); n != 200 {
			t.Errorf("%d repairs were made, want all of 200", n)
		}
	})
}

func TestRetriesComeAtTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, schedule.Config[*item]{}, nil)
		a, b, c, d := &item{name: "a"}, &item{name: "b"}, &item{name: "c"}, &item{name: "d"}
		r.RetryAfter(&a.entry, a, 3*time.Second)
		r.RetryAfter(&b.entry, b, time.Second)
		r.RetryAfter(&c.entry, c, 2*time.Second)
		r.RetryAfter(&d.entry, d, 2*time.Second)
		r.push(c, schedule.Changes, 1) // does not wait for its time any more
		if !r.Remove(&d.entry) {
			t.Error("what waits for its time is not said to wait")
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		r.want(t, "retried", &r.retried, "b", "a")
		r.want(t, "fetched", &r.fetched, "c")
		if want := []time.Duration{time.Second, 3 * time.Second}; !slices.Equal(r.when, want) {
			t.Errorf("tried again after %v, want %v", r.when, want)
		}
	})
}

// After an outage, each fetch that works releases two of those that wait; without an outage
// they wait for their time.
func TestTheEndOfAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, schedule.Config[*item]{}, nil)
		all := items("", 5)
		for n, i := range all {
			r.RetryAfter(&i.entry, i, time.Hour+time.Duration(n)*time.Second)
		}
		r.Succeeded(1) // one failure is not an outage
		r.want(t, "without an outage", &r.retried)
		r.Succeeded(3)
		r.want(t, "at the end of one", &r.retried, "0", "1")
		r.Succeeded(0)
		r.want(t, "after the next that works", &r.retried, "0", "1", "2", "3")
		late := &item{name: "late"} // fails after the outage: it is none of those released
		r.RetryAfter(&late.entry, late, 2*time.Hour)
		r.Succeeded(0)
		r.Succeeded(0)
		r.want(t, "after two more", &r.retried, "0", "1", "2", "3", "4")
	})
}

// News of keys that wait for their time is an occasion to try ten times a second.
func TestProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, schedule.Config[*item]{}, nil)
		tried := 0
		for range 1000 {
			if r.MayProbe() {
				tried++
			}
			time.Sleep(time.Millisecond)
		}
		if tried != 10 {
			t.Errorf("tried %d times in a second, want 10", tried)
		}
	})
}

func TestLateChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, schedule.Config[*item]{}, nil)
		a, b, c := &item{name: "a"}, &item{name: "b"}, &item{name: "c"}
		r.Watch(&a.entry, a, time.Now())
		r.Watch(&b.entry, b, time.Now())
		time.Sleep(time.Second)
		r.Watch(&c.entry, c, time.Now())
		r.Watch(&a.entry, a, time.Now()) // anew
		r.Unwatch(&b.entry)
		time.Sleep(time.Minute)
		synctest.Wait()
		r.want(t, "late", &r.late, "c", "a")
		if want := []time.Duration{3 * time.Second, 3 * time.Second}; !slices.Equal(r.when, want) {
			t.Errorf("late after %v, want %v", r.when, want)
		}
	})
}

// What is due for different reasons comes in time, though one timer runs for all.
func TestOneTimerForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, schedule.Config[*item]{RepairRate: 1}, nil)
		a, b, c := &item{name: "a"}, &item{name: "b"}, &item{name: "c"}
		r.RetryAfter(&a.entry, a, 10*time.Second)
		r.Watch(&b.entry, b, time.Now())
		r.RetryAfter(&c.entry, c, time.Second)
		for _, i := range items("repair", 3) {
			r.push(i, schedule.Repairs, 1)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if want := []time.Duration{time.Second, 2 * time.Second, 10 * time.Second}; !slices.Equal(r.when, want) {
			t.Errorf("called after %v, want %v", r.when, want)
		}
		r.want(t, "late", &r.late, "b")
		r.want(t, "retried", &r.retried, "c", "a")
		r.want(t, "fetched", &r.fetched, "repair0", "repair1", "repair2")
	})
}

// Nothing is called once Close was, but for what runs then.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate, limit := make(chan struct{}), schedule.NewLimit(1)
		r := newRig(t, schedule.Config[*item]{Limit: limit}, func([]*item) { <-gate })
		all := items("", 4)
		r.push(all[0], schedule.Changes, 1)
		r.push(all[1], schedule.Changes, 1)
		r.RetryAfter(&all[2].entry, all[2], time.Second)
		r.Watch(&all[3].entry, all[3], time.Now())
		synctest.Wait()
		r.Close()
		r.Close()
		close(gate)
		time.Sleep(time.Minute)
		r.push(all[3], schedule.Changes, 1)
		synctest.Wait()
		r.want(t, "fetched", &r.fetched, "0")
		r.want(t, "retried", &r.retried)
		r.want(t, "late", &r.late)

		other := newRig(t, schedule.Config[*item]{Limit: limit}, nil) // has the places
		other.push(&item{name: "4"}, schedule.Changes, 1)
		synctest.Wait()
		other.want(t, "fetched by the other", &other.fetched, "4")
	})
}

// Values are pushed, pushed again, removed and fetched by schedules that share a limit, while
// fetches end their goroutines now and then: what was pushed last and not removed is fetched
// after that push, and the limits hold.
func TestNothingIsLost(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		defer w.close(rt)
		steps := rapid.IntRange(1, 60).Draw(rt, "steps")
		for range steps {
			n := rapid.IntRange(0, len(w.items)-1).Draw(rt, "item")
			i, s := w.items[n], w.schedules[n%len(w.schedules)]
			switch rapid.IntRange(0, 5).Draw(rt, "what") {
			case 0:
				i.mu.Lock()
				if s.Remove(&i.entry) {
					w.owe(i, -1)
				}
				i.mu.Unlock()
			case 1:
				s.Hold()
				runtime.Gosched()
				s.Release()
			default:
				i.mu.Lock()
				w.owe(i, 1)
				s.Push(&i.entry, i, schedule.Lane(rapid.IntRange(1, 3).Draw(rt, "lane")), uint64(n))
				i.mu.Unlock()
			}
		}
	})
}

// world is some schedules with one limit.
type world struct {
	pool      workerpool.Pool
	schedules []*schedule.Schedule[*item]
	items     []*item
	size      int // of the limit

	mu       sync.Mutex
	owed     map[*item]bool
	running  map[int]int // fetches of each schedule
	failures []string
	calls    int
	done     *sync.Cond
}

func newWorld(t *rapid.T) *world {
	w := &world{size: rapid.IntRange(1, 4).Draw(t, "limit"), items: items("", 12), owed: map[*item]bool{}, running: map[int]int{}}
	w.done = sync.NewCond(&w.mu)
	limit := schedule.NewLimit(w.size)
	for n := range rapid.IntRange(1, 3).Draw(t, "schedules") {
		workers := rapid.IntRange(1, 3).Draw(t, "workers")
		w.schedules = append(w.schedules, schedule.New(schedule.Config[*item]{
			Workers: workers, BatchSize: rapid.IntRange(1, 3).Draw(t, "batch"), Limit: limit, Go: w.pool.Go,
			Fetch: func(list []*item) { w.fetch(n, workers, list) }, Retry: func(*item) {}, Late: func(*item) {},
		}))
	}
	return w
}

// owe notes that an item is to be fetched, or with -1 that it is not any more.
func (w *world) owe(i *item, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.owed[i] = n > 0
	if n < 0 {
		delete(w.owed, i)
	}
	w.done.Broadcast()
}

func (w *world) fetch(n, workers int, list []*item) {
	for _, i := range list { // as a view that begins: a push from now on is another fetch
		i.mu.Lock()
		w.owe(i, -1)
		i.mu.Unlock()
	}
	w.mu.Lock()
	w.calls++
	w.running[n]++
	total := 0
	for _, running := range w.running {
		total += running
	}
	if w.running[n] > workers || total > w.size {
		w.failures = append(w.failures, fmt.Sprintf("%d of %d fetches, %d of %d together", w.running[n], workers, total, w.size))
	}
	exit := w.calls%5 == 0
	w.mu.Unlock()
	runtime.Gosched()
	w.mu.Lock()
	w.running[n]--
	w.mu.Unlock()
	if exit {
		runtime.Goexit()
	}
}

// close waits until nothing is owed.
func (w *world) close(t *rapid.T) {
	w.mu.Lock()
	for len(w.owed) > 0 { // a hung test is ended with its stacks
		w.done.Wait()
	}
	failures := slices.Clone(w.failures)
	w.mu.Unlock()
	for _, s := range w.schedules {
		s.Close()
	}
	_ = w.pool.Close(context.Background())
	if len(failures) > 0 {
		t.Fatalf("limits were exceeded: %q", failures)
	}
}
