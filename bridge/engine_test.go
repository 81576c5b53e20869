package bridge_test

import (
	"context"
	"errors"
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

// bubble runs a test in a bubble with its own clock; synctest.Wait then means
// that everything that was going to happen has happened.
func bubble(t *testing.T, f func(t *testing.T)) { t.Helper(); synctest.Test(t, f) }

func TestNotifyPushesFreshRowsOnEveryNode(t *testing.T) {
	var broker membus.Broker
	var db table
	here, there := newNode(t, &broker), newNode(t, &broker)
	here.register(t, db.fetch, bridge.EntityOptions{})
	there.register(t, db.fetch, bridge.EntityOptions{})
	near, far := newScreen(here, "anna"), newScreen(there, "ben")
	near.subscribe(t, key, bridge.SubscribeOptions{})
	far.subscribe(t, key, bridge.SubscribeOptions{})

	db.write(key)
	here.notify(t, key)

	near.waitFor(t, 1)
	far.waitFor(t, 1)
	if got, want := near.rows()[0], `{"id":"100","rev":1,"for":"`+mark+`anna"}`; got != want {
		t.Errorf("the near client got %s, want %s", got, want)
	}
	if got, want := far.rows()[0], `{"id":"100","rev":1,"for":"`+mark+`ben"}`; got != want {
		t.Errorf("the far client got %s, want %s", got, want)
	}
}

func TestSubscribeAloneSendsNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var db table
		n := newNode(t, &membus.Broker{})
		n.register(t, db.fetch, bridge.EntityOptions{})
		s := newScreen(n, "")
		s.subscribe(t, key, bridge.SubscribeOptions{})
		synctest.Wait()
		if len(s.all()) != 0 || db.count() != 0 {
			t.Errorf("%d updates and %d fetches, want none", len(s.all()), db.count())
		}
	})
}

func TestSnapshotIsSentToWhoAskedOnly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var db table
		n := newNode(t, &membus.Broker{})
		n.register(t, db.fetch, bridge.EntityOptions{Scope: func(string) string { return "all" }})
		plain, curious := newScreen(n, ""), newScreen(n, "")
		plain.subscribe(t, key, bridge.SubscribeOptions{})
		curious.subscribe(t, key, withSnapshot)
		synctest.Wait()
		if len(curious.all()) != 1 || len(plain.all()) != 0 {
			t.Errorf("%d updates for who asked, %d for who did not, want 1 and 0", len(curious.all()), len(plain.all()))
		}
		curious.subscribe(t, key, withSnapshot)
		synctest.Wait()
		if len(curious.all()) != 2 || len(plain.all()) != 0 {
			t.Errorf("asked again: %d and %d, want 2 and 0", len(curious.all()), len(plain.all()))
		}
	})
}

// A change announced while the snapshot is being fetched may not be in it.
func TestNoGapBetweenSnapshotAndChanges(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGate()
		n := newNode(t, &membus.Broker{})
		n.register(t, g.fetch, bridge.EntityOptions{})
		s := newScreen(n, "")
		s.subscribe(t, key, withSnapshot)
		<-g.entered
		n.notify(t, key)
		g.release <- row("old")
		<-g.entered
		g.release <- row("new")
		synctest.Wait()
		if got := s.rows(); !slices.Equal(got, []string{"old", "new"}) {
			t.Errorf("saw %v, want old and then new", got)
		}
	})
}

func TestAStormDuringAFetchCostsOneMoreFetch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGate()
		n := newNode(t, &membus.Broker{})
		n.register(t, g.fetch, bridge.EntityOptions{})
		s := newScreen(n, "")
		s.subscribe(t, key, bridge.SubscribeOptions{})
		n.notify(t, key)
		<-g.entered
		for range 1000 {
			n.notify(t, key)
		}
		g.release <- row("first")
		<-g.entered
		g.release <- row("last")
		synctest.Wait()
		if got := n.Stats().Fetches; got != 2 {
			t.Errorf("%d fetches, want 2", got)
		}
		if got := s.rows(); !slices.Equal(got, []string{"first", "last"}) {
			t.Errorf("saw %v, want first and last", got)
		}
	})
}

func TestFetchesOfOneViewNeverOverlap(t *testing.T) {
	var running, overlaps atomic.Int32
	n := newNode(t, &membus.Broker{})
	n.register(t, func(context.Context, shared.EntityKey, string) ([][]byte, error) {
		if running.Add(1) > 1 {
			overlaps.Add(1)
		}
		time.Sleep(100 * time.Microsecond)
		running.Add(-1)
		return [][]byte{[]byte("row")}, nil
	}, bridge.EntityOptions{})
	s := newScreen(n, "")
	for range 300 { // leaving and coming back must not start a second fetch either
		s.subscribe(t, key, withSnapshot)
		n.notify(t, key)
		s.Unsubscribe(key)
		s.subscribe(t, key, withSnapshot)
		n.notify(t, key)
	}
	s.waitFor(t, 1)
	if overlaps.Load() != 0 {
		t.Errorf("%d fetches began while another was under way", overlaps.Load())
	}
}

func TestEqualScopesShareAFetchAndSecretsDoNot(t *testing.T) {
	role := func(secret string) string { return strings.SplitN(secret, ":", 2)[0] }
	for name, tt := range map[string]struct {
		scope func(string) string
		want  uint64
	}{
		"by secret": {nil, 4},
		"by role":   {role, 2},
		"public":    {func(string) string { return "" }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var db table
				n := newNode(t, &membus.Broker{})
				n.register(t, db.fetch, bridge.EntityOptions{Scope: tt.scope})
				var screens []*screen
				for _, secret := range []string{"guest:1", "guest:2", "boss:1", "boss:2"} {
					s := newScreen(n, secret)
					s.subscribe(t, key, bridge.SubscribeOptions{})
					screens = append(screens, s)
				}
				n.notify(t, key)
				synctest.Wait()
				if got := n.Stats().Fetches; got != tt.want {
					t.Errorf("%d fetches, want %d", got, tt.want)
				}
				for i, s := range screens {
					if len(s.all()) != 1 {
						t.Errorf("client %d saw %d updates, want 1", i, len(s.all()))
					}
				}
			})
		})
	}
}

func TestAPanickingScopeFunctionSharesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var db table
		n := newNode(t, &membus.Broker{})
		n.register(t, db.fetch, bridge.EntityOptions{Scope: func(string) string { panic("no") }})
		for _, secret := range []string{"a", "b"} {
			newScreen(n, secret).subscribe(t, key, bridge.SubscribeOptions{})
		}
		n.notify(t, key)
		synctest.Wait()
		if got := n.Stats().Fetches; got != 2 {
			t.Errorf("%d fetches for two secrets, want 2", got)
		}
	})
}

func TestUnsubscribeEndsPushes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGate()
		n := newNode(t, &membus.Broker{})
		n.register(t, g.fetch, bridge.EntityOptions{})
		s := newScreen(n, "")
		s.subscribe(t, key, bridge.SubscribeOptions{})
		n.notify(t, key)
		<-g.entered
		s.Unsubscribe(key)
		g.release <- row("late")
		synctest.Wait()
		n.notify(t, key)
		synctest.Wait()
		if got := s.rows(); len(got) != 0 {
			t.Errorf("saw %v after unsubscribing", got)
		}
		if st := n.Stats(); st.Views != 0 || st.Subscriptions != 0 {
			t.Errorf("%d views and %d subscriptions are left", st.Views, st.Subscriptions)
		}
	})
}

func TestASecretChangedDuringAFetchGetsNothingOfTheOldOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGate()
		n := newNode(t, &membus.Broker{})
		n.register(t, g.fetch, bridge.EntityOptions{})
		s := newScreen(n, "old")
		s.subscribe(t, key, bridge.SubscribeOptions{})
		n.notify(t, key)
		if secret := <-g.entered; secret != mark+"old" {
			t.Fatalf("fetched with %q", secret)
		}
		s.become("new")
		if secret := <-g.entered; secret != mark+"new" {
			t.Fatalf("what the old view owed was fetched with %q, want the new secret", secret)
		}
		g.release <- row("one")
		g.release <- row("two")
		synctest.Wait()
		if got := len(s.rows()); got != 1 {
			t.Errorf("saw %d results, want the new secret's alone", got)
		}
	})
}

func TestASecretChangeSendsWhatDiffersToWhoHasSnapshots(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, &membus.Broker{})
		n.register(t, func(_ context.Context, k shared.EntityKey, secret string) ([][]byte, error) {
			if k.ID == "public" {
				return [][]byte{[]byte("same for all")}, nil
			}
			return [][]byte{[]byte(k.ID + " for " + secret)}, nil
		}, bridge.EntityOptions{})
		s := newScreen(n, "guest")
		for _, id := range []string{"public", "private"} {
			s.subscribe(t, shared.EntityKey{Entity: items, ID: id}, withSnapshot)
		}
		s.subscribe(t, shared.EntityKey{Entity: items, ID: "plain"}, bridge.SubscribeOptions{})
		synctest.Wait()
		before := len(s.rows())
		s.become("boss")
		s.become("boss")
		synctest.Wait()
		if got := s.rows()[before:]; !slices.Equal(got, []string{"private for " + mark + "boss"}) {
			t.Errorf("after the change saw %q, want only the row that differs", got)
		}
	})
}

// What waited to be written under the old secret is dropped, and owed again even
// where the new secret sees the very same row.
func TestASecretChangeReplacesWhatWasNotWrittenYet(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, &membus.Broker{})
		n.register(t, func(context.Context, shared.EntityKey, string) ([][]byte, error) {
			return [][]byte{[]byte("same for all")}, nil
		}, bridge.EntityOptions{})
		r := &reader{}
		r.Client = n.NewClient(r, bridge.ClientOptions{Secret: shared.NewSecret(mark + "old")})
		if err := r.Subscribe(key, bridge.SubscribeOptions{}); err != nil {
			t.Fatal(err)
		}
		n.notify(t, key)
		synctest.Wait()
		r.SetSecret(mark + "new")
		synctest.Wait()
		if _, _, ok := r.pop(); !ok {
			t.Error("the row was dropped and never owed again")
		}
	})
}

// A member that moves to a view whose fetch is older than what it has seen
// must not be taken back by it.
func TestMovingToAnotherViewNeverGoesBackwards(t *testing.T) {
	bubble(t, func(t *testing.T) {
		slow := newGate()
		var db table
		db.write(key)
		n := newNode(t, &membus.Broker{})
		n.register(t, func(ctx context.Context, k shared.EntityKey, secret string) ([][]byte, error) {
			rows, err := db.fetch(ctx, k, "")
			if secret == mark+"slow" {
				if _, err := slow.fetch(ctx, k, secret); err != nil {
					return nil, err
				}
			}
			return rows, err
		}, bridge.EntityOptions{})
		stayer, mover := newScreen(n, "slow"), newScreen(n, "quick")
		stayer.subscribe(t, key, withSnapshot)
		<-slow.entered // has read revision 1 and dawdles
		db.write(key)
		mover.subscribe(t, key, withSnapshot)
		synctest.Wait() // mover has seen revision 2
		mover.become("slow")
		slow.release <- row("")
		<-slow.entered
		slow.release <- row("")
		synctest.Wait()
		for _, r := range mover.rows() {
			if !strings.Contains(r, `"rev":2`) {
				t.Errorf("the mover saw %s after revision 2", r)
			}
		}
		if got := stayer.rows(); len(got) != 2 {
			t.Errorf("the stayer saw %v, want both revisions", got)
		}
	})
}

func TestAFailedFetchIsRetriedUntilItWorks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		failures := 5
		n := newNode(t, &membus.Broker{})
		n.register(t, func(context.Context, shared.EntityKey, string) ([][]byte, error) {
			if failures--; failures >= 0 {
				return nil, errors.New("the database is gone; the secret was " + mark + "hunter2")
			}
			return [][]byte{[]byte("at last")}, nil
		}, bridge.EntityOptions{})
		s := newScreen(n, "hunter2")
		s.subscribe(t, key, bridge.SubscribeOptions{})
		n.notify(t, key)
		time.Sleep(10 * time.Second) // of the bubble's clock
		if got := s.rows(); !slices.Equal(got, []string{"at last"}) {
			t.Errorf("saw %v, want one row", got)
		}
		if st := n.Stats(); st.FetchesFailed != 5 {
			t.Errorf("%d failures counted, want 5", st.FetchesFailed)
		}
		if strings.Contains(n.log.String(), "hunter2") || !strings.Contains(n.log.String(), "[redacted]") {
			t.Errorf("the log shows the secret:\n%s", n.log)
		}
	})
}

func TestNobodyWatchingEndsRetries(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, &membus.Broker{})
		n.register(t, func(context.Context, shared.EntityKey, string) ([][]byte, error) {
			return nil, errors.New("broken")
		}, bridge.EntityOptions{Retry: bridge.Retry{Min: time.Minute, Max: time.Minute}})
		s := newScreen(n, "")
		s.subscribe(t, key, withSnapshot)
		synctest.Wait()
		s.Close()
		time.Sleep(time.Hour)
		if st := n.Stats(); st.Fetches != 1 || st.Views != 0 || st.Clients != 0 {
			t.Errorf("after the client left: %+v", st)
		}
	})
}

func TestALateResultIsDiscarded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		slow := true
		n := newNode(t, &membus.Broker{})
		n.register(t, func(context.Context, shared.EntityKey, string) ([][]byte, error) {
			if slow {
				slow = false
				time.Sleep(time.Minute) // ignores its context
				return [][]byte{[]byte("too late")}, nil
			}
			return [][]byte{[]byte("in time")}, nil
		}, bridge.EntityOptions{Timeout: time.Second})
		s := newScreen(n, "")
		s.subscribe(t, key, withSnapshot)
		time.Sleep(2 * time.Minute)
		if got := s.rows(); !slices.Equal(got, []string{"in time"}) {
			t.Errorf("saw %v, want what came in time", got)
		}
	})
}

func TestAPanickingHandlerCostsARetry(t *testing.T) {
	bubble(t, func(t *testing.T) {
		calls := 0
		n := newNode(t, &membus.Broker{})
		n.register(t, func(_ context.Context, _ shared.EntityKey, secret string) ([][]byte, error) {
			if calls++; calls == 1 {
				panic("with " + secret)
			}
			return [][]byte{[]byte("fine")}, nil
		}, bridge.EntityOptions{})
		s := newScreen(n, "hunter2")
		s.subscribe(t, key, withSnapshot)
		time.Sleep(time.Minute)
		if got := s.rows(); !slices.Equal(got, []string{"fine"}) {
			t.Errorf("saw %v, want fine", got)
		}
		if log := n.log.String(); strings.Contains(log, mark) || !strings.Contains(log, "engine_test.go") {
			t.Errorf("want the stack in the log and not the secret:\n%s", log)
		}
	})
}

func TestNotFoundDeletesAndForbiddenUnsubscribes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		answer := shared.ErrNotFound
		n := newNode(t, &membus.Broker{})
		n.register(t, func(context.Context, shared.EntityKey, string) ([][]byte, error) {
			return nil, fmt.Errorf("reading: %w", answer)
		}, bridge.EntityOptions{})
		s := newScreen(n, "")
		s.subscribe(t, key, bridge.SubscribeOptions{})
		n.notify(t, key)
		synctest.Wait()
		if all := s.all(); len(all) != 1 || all[0].Kind != bridge.KindDeleted {
			t.Fatalf("saw %+v, want a deletion", all)
		}
		answer = shared.ErrForbidden
		n.notify(t, key)
		synctest.Wait()
		if all := s.all(); len(all) != 2 || all[1].Kind != bridge.KindForbidden {
			t.Fatalf("saw %+v, want to be told it is forbidden", all)
		}
		n.notify(t, key)
		synctest.Wait()
		if st := n.Stats(); len(s.all()) != 2 || st.Subscriptions != 0 || st.Views != 0 {
			t.Errorf("after forbidden: %d updates, %+v", len(s.all()), st)
		}
	})
}

func TestOneTypesHangingFetchesDelayNoOther(t *testing.T) {
	bubble(t, func(t *testing.T) {
		hang := newGate()
		var db table
		n := newNode(t, &membus.Broker{})
		n.register(t, hang.fetch, bridge.EntityOptions{Workers: 2, Timeout: time.Hour})
		if err := n.Register("users", db.fetch, bridge.EntityOptions{}); err != nil {
			t.Fatal(err)
		}
		s := newScreen(n, "")
		for i := range 10 {
			s.subscribe(t, shared.EntityKey{Entity: items, ID: fmt.Sprint(i)}, withSnapshot)
		}
		synctest.Wait()
		if len(hang.entered) != 2 || n.Stats().FetchesQueued != 8 {
			t.Errorf("%d fetches run and %d wait, want 2 and 8", len(hang.entered), n.Stats().FetchesQueued)
		}
		s.subscribe(t, shared.EntityKey{Entity: "users", ID: "1"}, withSnapshot)
		synctest.Wait()
		if got := len(s.all()); got != 1 {
			t.Errorf("the other type pushed %d updates, want 1", got)
		}
		for range 10 {
			hang.release <- row("done")
		}
		synctest.Wait()
		if got := len(s.all()); got != 11 {
			t.Errorf("saw %d updates in the end, want 11", got)
		}
	})
}

func TestABusOutageIsRepairedWithDifferencesOnly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var broker membus.Broker
		var db table
		n := newNode(t, &broker)
		n.register(t, db.fetch, bridge.EntityOptions{})
		changed, same := key, shared.EntityKey{Entity: items, ID: "same"}
		s := newScreen(n, "")
		s.subscribe(t, changed, withSnapshot)
		s.subscribe(t, same, withSnapshot)
		quiet := newScreen(n, "quiet") // has never been sent anything; it may have missed its first
		quiet.subscribe(t, changed, bridge.SubscribeOptions{})
		synctest.Wait()

		broker.SetDown(true)
		if n.Ready() {
			t.Error("ready without a bus")
		}
		db.write(changed) // announced elsewhere, never heard here
		broker.SetDown(false)
		synctest.Wait()
		if !n.Ready() {
			t.Error("not ready with the bus back")
		}
		if got := len(s.all()); got != 3 {
			t.Errorf("saw %d updates, want 2 snapshots and 1 repair", got)
		}
		if got := len(quiet.all()); got != 1 {
			t.Errorf("the client that had seen nothing saw %d updates, want 1", got)
		}
	})
}

func TestANotificationThatCannotBePublishedStillServesThisNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var broker membus.Broker
		var db table
		n := newNode(t, &broker)
		n.register(t, db.fetch, bridge.EntityOptions{})
		s := newScreen(n, "")
		s.subscribe(t, key, bridge.SubscribeOptions{})
		broker.SetDown(true)
		if err := n.Notify(t.Context(), key); !errors.Is(err, shared.ErrUnavailable) {
			t.Errorf("Notify returned %v, want ErrUnavailable", err)
		}
		synctest.Wait()
		if got := len(s.all()); got != 1 {
			t.Errorf("this node's client saw %d updates, want 1", got)
		}
	})
}

func TestNotifyManyKeysAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var db table
		n := newNode(t, &membus.Broker{})
		n.register(t, db.fetch, bridge.EntityOptions{})
		s := newScreen(n, "")
		var keys []shared.EntityKey
		for i := range 900 {
			k := shared.EntityKey{Entity: items, ID: fmt.Sprintf("%s-%d", strings.Repeat(`"<é`, 40), i)}
			keys = append(keys, k)
			s.subscribe(t, k, bridge.SubscribeOptions{})
		}
		n.notify(t, keys...)
		synctest.Wait()
		if got := len(s.all()); got != len(keys) {
			t.Errorf("saw %d updates, want %d", got, len(keys))
		}
	})
}

func TestBadNamesAreErrorsAndHarmNothing(t *testing.T) {
	var db table
	n := newNode(t, &membus.Broker{})
	for _, name := range []shared.EntityType{"", "a b", "x\n", "items#ephemeral", shared.EntityType(strings.Repeat("x", 65)), "é"} {
		if err := n.Register(name, db.fetch, bridge.EntityOptions{}); !errors.Is(err, shared.ErrBadEntity) {
			t.Errorf("Register(%q) = %v, want ErrBadEntity", name, err)
		}
	}
	n.register(t, db.fetch, bridge.EntityOptions{})
	if err := n.Register(items, db.fetch, bridge.EntityOptions{}); !errors.Is(err, shared.ErrDuplicateEntity) {
		t.Errorf("registering twice: %v, want ErrDuplicateEntity", err)
	}
	s := newScreen(n, "")
	for k, want := range map[shared.EntityKey]error{
		{Entity: "nope", ID: "1"}:                          shared.ErrUnknownEntity,
		{Entity: items}:                                    shared.ErrBadKey,
		{Entity: items, ID: strings.Repeat("x", 256)}:      shared.ErrBadKey,
		{Entity: items, ID: "a\x00b"}:                      shared.ErrBadKey,
		{Entity: items, ID: "\xff"}:                        shared.ErrBadKey,
		{Entity: shared.EntityType("bad name"), ID: "100"}: shared.ErrBadKey,
	} {
		if err := s.Subscribe(k, bridge.SubscribeOptions{}); !errors.Is(err, want) {
			t.Errorf("Subscribe(%.20q) = %v, want %v", k, err, want)
		}
		if err := n.Notify(t.Context(), k, key); err == nil {
			t.Errorf("Notify(%.20q) returned nil", k)
		}
	}
	s.subscribe(t, key, bridge.SubscribeOptions{})
	n.notify(t, key)
	s.waitFor(t, 1)
}

func TestBrokenBusMessagesAreIgnored(t *testing.T) {
	var broker membus.Broker
	var db table
	n := newNode(t, &broker)
	n.register(t, db.fetch, bridge.EntityOptions{})
	s := newScreen(n, "")
	s.subscribe(t, key, bridge.SubscribeOptions{})
	stranger := broker.NewNode()
	bad := []string{"", "{", "null", "[]", `"x"`, "{}", `{"entity":"items"}`, `{"id":"100"}`,
		`{"entity":"users","id":"100"}`, `{"entity":"items","id":100}`, "\xff\xfe", strings.Repeat("[", 100_000)}
	for _, body := range bad {
		if err := stranger.Publish(t.Context(), items, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if got := n.Stats().BadMessages; got != uint64(len(bad)) {
		t.Errorf("%d bad messages counted, want %d", got, len(bad))
	}
	// What another program may publish by hand is understood.
	if err := stranger.Publish(t.Context(), items, []byte(`{ "entity": "items", "id": "100", "else": [1] }`)); err != nil {
		t.Fatal(err)
	}
	s.waitFor(t, 1)
	if err := stranger.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestSubscriptionLimit(t *testing.T) {
	var db table
	n := newNode(t, &membus.Broker{})
	n.register(t, db.fetch, bridge.EntityOptions{})
	s := newScreen(n, "")
	for i := range 1000 {
		s.subscribe(t, shared.EntityKey{Entity: items, ID: fmt.Sprint(i)}, bridge.SubscribeOptions{})
	}
	if err := s.Subscribe(key, bridge.SubscribeOptions{}); err != nil {
		t.Errorf("subscribing again at the limit: %v", err)
	}
	extra := shared.EntityKey{Entity: items, ID: "one too many"}
	if err := s.Subscribe(extra, bridge.SubscribeOptions{}); !errors.Is(err, shared.ErrTooManySubscriptions) {
		t.Errorf("subscription 1,001 returned %v, want ErrTooManySubscriptions", err)
	}
	s.Unsubscribe(key)
	if err := s.Subscribe(extra, bridge.SubscribeOptions{}); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

func TestARowThatIsNotTextIsAnError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, &membus.Broker{})
		n.register(t, func(context.Context, shared.EntityKey, string) ([][]byte, error) {
			return [][]byte{{0xff}}, nil
		}, bridge.EntityOptions{})
		s := newScreen(n, "")
		s.subscribe(t, key, withSnapshot)
		synctest.Wait()
		if st := n.Stats(); len(s.all()) != 0 || st.FetchesFailed != 1 {
			t.Errorf("%d updates, %d failures, want 0 and 1", len(s.all()), st.FetchesFailed)
		}
	})
}

func TestCloseEndsFetchesAndRefusesMore(t *testing.T) {
	g := newGate()
	n := newNode(t, &membus.Broker{})
	n.register(t, g.fetch, bridge.EntityOptions{Timeout: time.Hour})
	s := newScreen(n, "")
	s.subscribe(t, key, withSnapshot)
	<-g.entered
	if err := n.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := n.Close(t.Context()); err != nil {
		t.Errorf("closing again: %v", err)
	}
	if err := n.Register("more", g.fetch, bridge.EntityOptions{}); !errors.Is(err, shared.ErrClosed) {
		t.Errorf("Register after Close returned %v, want ErrClosed", err)
	}
	if err := n.Notify(t.Context(), key); !errors.Is(err, shared.ErrClosed) {
		t.Errorf("Notify after Close returned %v, want ErrClosed", err)
	}
	s.Client.Close()
	if err := s.Subscribe(key, bridge.SubscribeOptions{}); !errors.Is(err, shared.ErrClosed) {
		t.Errorf("Subscribe after the client's Close returned %v, want ErrClosed", err)
	}
}

func TestCloseDoesNotWaitForEverForAHandler(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, &membus.Broker{})
		n.register(t, func(context.Context, shared.EntityKey, string) ([][]byte, error) {
			time.Sleep(time.Hour)
			return nil, nil
		}, bridge.EntityOptions{})
		newScreen(n, "").subscribe(t, key, withSnapshot)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := n.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close returned %v, want that time ran out", err)
		}
		time.Sleep(2 * time.Hour)
	})
}

func TestBadOptionsAreErrors(t *testing.T) {
	n := newNode(t, &membus.Broker{})
	var db table
	for _, o := range []bridge.EntityOptions{{Workers: -1}, {Timeout: -1}, {Retry: bridge.Retry{Min: 2, Max: 1}}, {Retry: bridge.Retry{Max: 1}}} {
		if err := n.Register(items, db.fetch, o); err == nil {
			t.Errorf("Register with %+v returned nil", o)
		}
	}
	if err := n.Register(items, nil, bridge.EntityOptions{}); err == nil {
		t.Error("Register without a handler returned nil")
	}
	if _, err := bridge.New(bridge.Config{}); err == nil {
		t.Error("New without a bus returned nil")
	}
}
