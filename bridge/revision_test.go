package bridge_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/shared"
)

// replica answers as one after the other of its results says, the last for ever.
func replica(results ...shared.FetchResult) *batches {
	asked := 0
	return &batches{answer: func(shared.FetchRequest) shared.FetchResult {
		r := results[min(asked, len(results)-1)]
		asked++
		return r
	}}
}

func revision(n int64) shared.FetchResult {
	return shared.FetchResult{Rows: [][]byte{fmt.Appendf(nil, "revision %d", n)}, Revision: n}
}

// versions is what a client saw, deletions included.
func (s *screen) versions() (seen []string) {
	for _, u := range s.all() {
		if u.Kind == bridge.KindDeleted {
			seen = append(seen, "deleted")
			continue
		}
		seen = append(seen, string(u.Rows[0]))
	}
	return seen
}

func TestReadsInOrderOfTheirRevisions(t *testing.T) {
	gone := shared.FetchResult{Err: shared.ErrNotFound}
	goneAt := func(n int64) shared.FetchResult { return shared.FetchResult{Err: shared.ErrNotFound, Revision: n} }
	for name, test := range map[string]struct {
		reads  []shared.FetchResult // the first for the snapshot, then one a notification, retries apart
		want   []string
		lagged uint64
	}{
		"a read that lags is dropped and tried again": {
			[]shared.FetchResult{revision(1), revision(3), revision(2), revision(2), revision(4)},
			[]string{"revision 1", "revision 3", "revision 4"}, 2,
		},
		"an equal revision is pushed": {
			[]shared.FetchResult{revision(2), revision(2), revision(2)},
			[]string{"revision 2", "revision 2", "revision 2"}, 0,
		},
		"a row that comes back begins anew": {
			[]shared.FetchResult{revision(7), gone, revision(1)},
			[]string{"revision 7", "deleted", "revision 1"}, 0,
		},
		"a deletion has a revision, too": {
			[]shared.FetchResult{revision(7), goneAt(8), revision(7), goneAt(8)},
			[]string{"revision 7", "deleted", "deleted"}, 1,
		},
		"and may lag": {
			[]shared.FetchResult{revision(7), goneAt(6), revision(7), revision(8)},
			[]string{"revision 7", "revision 7", "revision 8"}, 1,
		},
		"without a revision nothing is known": {
			[]shared.FetchResult{revision(7), {Rows: [][]byte{[]byte("none")}}, revision(6), revision(7)},
			[]string{"revision 7", "none", "revision 7"}, 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				n := newNode(t, &membus.Broker{})
				if err := n.RegisterBatch(items, replica(test.reads...).fetch, bridge.EntityOptions{}); err != nil {
					t.Fatal(err)
				}
				s := newScreen(n, "me")
				s.subscribe(t, key, withSnapshot)
				time.Sleep(time.Second)
				for range 2 {
					n.notify(t, key)
					time.Sleep(10 * time.Second) // and the retries
				}
				if got := s.versions(); !slices.Equal(got, test.want) {
					t.Errorf("saw %q, want %q", got, test.want)
				}
				if st := n.Stats(); st.FetchesLagged != test.lagged || st.Retried != test.lagged || st.FetchesFailed != 0 {
					t.Errorf("the figures are %+v, want %d lagged and tried again, none failed", st, test.lagged)
				}
			})
		})
	}
}

// Where the application says that the content is the same, a repair sends
// nothing, though the rows differ.
func TestTheApplicationsOwnVersion(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var broker membus.Broker
		n, version, read := newNode(t, &broker), "a", 0
		handler := &batches{answer: func(shared.FetchRequest) shared.FetchResult {
			read++
			return shared.FetchResult{Rows: [][]byte{fmt.Appendf(nil, "read no. %d", read)}, Version: version}
		}}
		if err := n.RegisterBatch(items, handler.fetch, bridge.EntityOptions{}); err != nil {
			t.Fatal(err)
		}
		s := newScreen(n, "me")
		s.subscribe(t, key, withSnapshot)
		synctest.Wait()
		for _, version = range []string{"a", "b"} {
			broker.SetDown(true)
			broker.SetDown(false)
			synctest.Wait()
		}
		if got, want := s.rows(), []string{"read no. 1", "read no. 3"}; !slices.Equal(got, want) {
			t.Errorf("saw %q, want %q", got, want)
		}
		if all := s.all(); all[0].Version == all[1].Version {
			t.Error("two versions of the application's are one")
		}
	})
}

// A version is one of a key and a secret: with another secret it says nothing.
func TestTheApplicationsVersionIsOneOfASecret(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, &membus.Broker{})
		handler := &batches{answer: func(r shared.FetchRequest) shared.FetchResult {
			return shared.FetchResult{Rows: [][]byte{[]byte("for " + r.Secret.Reveal())}, Version: "7"}
		}}
		if err := n.RegisterBatch(items, handler.fetch, bridge.EntityOptions{}); err != nil {
			t.Fatal(err)
		}
		s := newScreen(n, "admin")
		s.subscribe(t, key, withSnapshot)
		synctest.Wait()
		s.become("guest")
		synctest.Wait()
		if got, want := s.rows(), []string{"for " + mark + "admin", "for " + mark + "guest"}; !slices.Equal(got, want) {
			t.Errorf("saw %q, want %q", got, want)
		}
		back := newScreen(n, "guest")
		back.subscribe(t, key, bridge.SubscribeOptions{Snapshot: true, Version: s.all()[0].Version})
		synctest.Wait()
		if got, want := back.rows(), []string{"for " + mark + "guest"}; !slices.Equal(got, want) {
			t.Errorf("with the version of another secret it saw %q, want %q", got, want)
		}
	})
}
