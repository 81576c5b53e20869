package bridge_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/shared"
)

// lagging is a node whose reads have the revision that is returned, tried again after at
// most a second.
func lagging(t *testing.T, read func() int64) *node {
	t.Helper()
	n := newNode(t, &membus.Broker{})
	handler := &batches{answer: func(shared.FetchRequest) shared.FetchResult { return revision(read()) }}
	options := bridge.EntityOptions{Retry: bridge.Retry{Min: time.Second, Max: time.Second}}
	if err := n.RegisterBatch(items, handler.fetch, options); err != nil {
		t.Fatal(err)
	}
	return n
}

func (s *screen) saw(t *testing.T, what string, want ...string) {
	t.Helper()
	if got := s.versions(); !slices.Equal(got, want) {
		t.Errorf("%s: saw %q, want %q", what, got, want)
	}
}

// A backup that was restored is no replica that lags: after half a minute its older row
// is what there is, the log says so, and what is written from then on is news.
func TestARevisionThatGoesBackForGoodIsHandedOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var reads atomic.Int64
		reads.Store(7)
		n := lagging(t, reads.Load)
		s := newScreen(n, "me")
		s.subscribe(t, key, withSnapshot)
		synctest.Wait()
		reads.Store(3)
		n.notify(t, key)
		time.Sleep(29 * time.Second)
		s.saw(t, "before half a minute is over", "revision 7")
		time.Sleep(3 * time.Second)
		s.saw(t, "after it", "revision 7", "revision 3")
		if told := s.story(); told[len(told)-1] != "fresh" {
			t.Errorf("the client was told %q, want fresh at the end", told)
		}
		if log := n.log.String(); !strings.Contains(log, "a revision went back") || !strings.Contains(log, "from=7 to=3") {
			t.Errorf("the log does not say that the revision went back:\n%s", log)
		}
		reads.Store(4)
		n.notify(t, key)
		synctest.Wait()
		s.saw(t, "after a write", "revision 7", "revision 3", "revision 4")
	})
}

// A replica that comes nearer is waited for, however many of its revisions are read.
func TestAReplicaThatCatchesUpIsWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		start := time.Now()
		var behind atomic.Bool
		n := lagging(t, func() int64 {
			if behind.Load() {
				return int64(time.Since(start) / (20 * time.Second))
			}
			return 1000
		})
		s := newScreen(n, "me")
		s.subscribe(t, key, withSnapshot)
		synctest.Wait()
		time.Sleep(time.Minute)
		behind.Store(true)
		n.notify(t, key)
		time.Sleep(4 * time.Minute)
		s.saw(t, "after four minutes", "revision 1000")
		time.Sleep(2 * time.Minute)
		if got := s.versions(); len(got) != 2 {
			t.Errorf("after six minutes it saw %q, want what has not caught up", got)
		}
	})
}

// A client that has nothing cannot go backwards: it gets the older row at once, and the
// newer one as soon as that is read. One that has something waits with the others.
func TestAClientThatHasNothingGetsWhatLags(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var reads atomic.Int64
		reads.Store(7)
		n := lagging(t, reads.Load)
		before := newScreen(n, "me")
		before.subscribe(t, key, withSnapshot)
		synctest.Wait()
		reads.Store(3)
		first, back := newScreen(n, "me"), newScreen(n, "me")
		first.subscribe(t, key, withSnapshot)
		back.subscribe(t, key, bridge.SubscribeOptions{Snapshot: true, Version: before.all()[0].Version})
		synctest.Wait()
		first.saw(t, "who has nothing", "revision 3")
		if fresh := first.story(); !slices.Contains(fresh, "stale") {
			t.Errorf("who got what lags was told %q, want stale", fresh)
		}
		reads.Store(8)
		time.Sleep(2 * time.Second)
		first.saw(t, "who had nothing, later", "revision 3", "revision 8")
		back.saw(t, "who had something", "revision 8")
		before.saw(t, "who was there", "revision 7", "revision 8")
	})
}

// The same holds for a row that is gone where others still have one.
func TestAClientThatHasNothingHearsThatTheRowIsGone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var gone atomic.Bool
		n := newNode(t, &membus.Broker{})
		handler := &batches{answer: func(shared.FetchRequest) shared.FetchResult {
			if gone.Load() {
				return shared.FetchResult{Err: fmt.Errorf("at 3: %w", shared.ErrNotFound), Revision: 3}
			}
			return revision(7)
		}}
		if err := n.RegisterBatch(items, handler.fetch, bridge.EntityOptions{}); err != nil {
			t.Fatal(err)
		}
		newScreen(n, "me").subscribe(t, key, withSnapshot)
		synctest.Wait()
		gone.Store(true)
		s := newScreen(n, "me")
		s.subscribe(t, key, withSnapshot)
		synctest.Wait()
		s.saw(t, "who has nothing", "deleted")
	})
}
