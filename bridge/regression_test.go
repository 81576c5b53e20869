package bridge_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
)

// Each of these was broken once.

// A client that joined a view between the hand-out of a result and the view's
// return to idle was never served. Only real concurrency gets between the two.
func TestEverySnapshotAskedForComes(t *testing.T) {
	n := newNode(t, &membus.Broker{})
	n.register(t, fixedRow, bridge.EntityOptions{Scope: public})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for end := time.Now().Add(time.Second); time.Now().Before(end); {
				s := newScreen(n, "")
				if err := s.Subscribe(key, withSnapshot); err != nil {
					t.Error(err)
					return
				}
				select {
				case <-s.news:
				case <-time.After(patience):
					t.Error("a snapshot never came")
					return
				}
				s.Client.Close()
			}
		})
	}
	wg.Wait()
}

// The same, with all the time in the world between the two: a sink that takes
// its time over a result, while somebody else joins.
func TestWhoJoinsWhileAResultIsHandedOutIsServed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		answer := shared.ErrForbidden
		n := newNode(t, &membus.Broker{})
		n.register(t, func(context.Context, shared.EntityKey, string) ([][]byte, error) {
			if answer != nil {
				err := answer
				answer = nil
				return nil, err
			}
			return [][]byte{[]byte("row")}, nil
		}, bridge.EntityOptions{Scope: public})
		late := newScreen(n, "")
		early := &hooked{}
		early.Client = n.NewClient(early, bridge.ClientOptions{})
		early.hook = func() {
			// From within the hand-out: as soon as the lock is free.
			go late.Subscribe(key, withSnapshot)
		}
		if err := early.Subscribe(key, withSnapshot); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := late.rows(); !slices.Equal(got, []string{"row"}) {
			t.Errorf("who joined meanwhile saw %q, want the row", got)
		}
	})
}

type hooked struct {
	*bridge.Client
	hook func()
}

func (h *hooked) Push(*bridge.Slot, *bridge.Update) { h.hook() }
func (h *hooked) Drop(*bridge.Slot) bool            { return false }

// A key with more scopes than are searched one by one.
func TestManyScopesOfOneKey(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var db table
		n := newNode(t, &membus.Broker{})
		n.register(t, db.fetch, bridge.EntityOptions{})
		for round := range 3 {
			var screens []*screen
			for i := range 30 {
				s := newScreen(n, fmt.Sprint("secret ", i))
				s.subscribe(t, key, bridge.SubscribeOptions{})
				screens = append(screens, s)
			}
			for i := 0; i < 30; i += 2 { // every other one leaves and comes back
				screens[i].Unsubscribe(key)
			}
			for i := 0; i < 30; i += 2 {
				screens[i].subscribe(t, key, bridge.SubscribeOptions{})
			}
			if got := n.Stats().Views; got != 30 {
				t.Errorf("round %d: %d views for 30 secrets", round, got)
			}
			db.write(key)
			n.notify(t, key)
			synctest.Wait()
			for i, s := range screens {
				want := fmt.Sprintf(`{"id":"100","rev":%d,"for":"%ssecret %d"}`, round+1, mark, i)
				if got := s.rows(); !slices.Equal(got, []string{want}) {
					t.Errorf("round %d: client %d saw %q", round, i, got)
				}
				s.Client.Close()
			}
		}
		if got := n.Stats().Views; got != 0 {
			t.Errorf("%d views are left", got)
		}
	})
}

// A secret that changes between the computing of its scope and its use.
func TestASecretChangedWhileItsScopeIsComputed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		inScope, goOn := make(chan bool), make(chan bool)
		slow := atomic.Bool{}
		n := newNode(t, &membus.Broker{})
		n.register(t, func(_ context.Context, _ shared.EntityKey, secret string) ([][]byte, error) {
			return [][]byte{[]byte(secret)}, nil
		}, bridge.EntityOptions{Scope: func(secret string) string {
			if slow.CompareAndSwap(true, false) {
				inScope <- true
				<-goOn
			}
			return secret
		}})
		// Somebody who has the old secret, so that its view exists.
		newScreen(n, "old").subscribe(t, key, withSnapshot)
		newScreen(n, "").subscribe(t, other, withSnapshot)
		synctest.Wait() // nobody else is asked about any more
		s := newScreen(n, "old")
		slow.Store(true)
		go s.Subscribe(key, withSnapshot)
		<-inScope
		s.become("new")
		goOn <- true
		synctest.Wait()
		if got := s.rows(); !slices.Equal(got, []string{mark + "new"}) {
			t.Errorf("saw %q, want the row of the new secret", got)
		}
		// And the other way round: a subscription that appears meanwhile.
		slow.Store(true)
		go s.become("newest")
		<-inScope
		s.subscribe(t, other, withSnapshot)
		synctest.Wait() // until it has its first row, of the secret that it has still
		goOn <- true
		synctest.Wait()
		if got := s.rows(); !slices.Equal(got[len(got)-2:], []string{mark + "newest", mark + "newest"}) {
			t.Errorf("saw %q, want both keys to end with the newest secret", got)
		}
	})
}

// A stalled client that subscribes and leaves, or is evicted, again and again
// holds what it watches now.
func TestAStalledClientThatComesAndGoesHoldsNothing(t *testing.T) {
	for name, answer := range map[string]error{"rows": nil, "forbidden": shared.ErrForbidden} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				n := newNode(t, &membus.Broker{})
				n.register(t, func(context.Context, shared.EntityKey, string) ([][]byte, error) {
					return [][]byte{[]byte("row")}, answer
				}, bridge.EntityOptions{})
				r := &reader{}
				r.Client = n.NewClient(r, bridge.ClientOptions{MaxSubscriptions: 10})
				for i := range 1000 {
					k := shared.EntityKey{Entity: items, ID: fmt.Sprint(i % 3)}
					if err := r.Subscribe(k, withSnapshot); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					if answer == nil {
						r.Unsubscribe(k)
					}
				}
				if got := r.queue.Len(); got > 10 {
					t.Errorf("%d updates wait for a client that may watch 10 keys", got)
				}
			})
		})
	}
}

// Coming and going while fetches are slow must not pile up views in the queue.
func TestViewsWithoutMembersDoNotWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGate()
		n := newNode(t, &membus.Broker{})
		n.register(t, g.fetch, bridge.EntityOptions{Workers: 1, Timeout: time.Hour})
		s := newScreen(n, "")
		s.subscribe(t, key, withSnapshot)
		<-g.entered
		for i := range 1000 {
			k := shared.EntityKey{Entity: items, ID: fmt.Sprint("passing ", i)}
			s.subscribe(t, k, withSnapshot)
			s.become(fmt.Sprint(i))
			s.Unsubscribe(k)
		}
		if st := n.Stats(); st.Views > 2 || st.FetchesQueued > 1 {
			t.Errorf("%d views and %d waiting fetches, want only those somebody wants", st.Views, st.FetchesQueued)
		}
		g.release <- row("")
		<-g.entered
		g.release <- row("")
	})
}

// A fetch without rows and without an error says nothing: what waits stays.
func TestNothingToSayErasesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		rows := [][]byte{[]byte("newest")}
		n := newNode(t, &membus.Broker{})
		n.register(t, func(context.Context, shared.EntityKey, string) ([][]byte, error) { return rows, nil }, bridge.EntityOptions{})
		r := &reader{}
		r.Client = n.NewClient(r, bridge.ClientOptions{})
		if err := r.Subscribe(key, withSnapshot); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		rows = nil
		n.notify(t, key)
		synctest.Wait()
		if u, _, ok := r.pop(); !ok || string(u.Rows[0]) != "newest" {
			t.Error("the waiting row was replaced by nothing")
		}
	})
}

// nilError is a nil pointer that is a non-nil error, as happens by mistake.
type nilError struct{ text string }

func (e *nilError) Error() string { return e.text }

func TestErrorsThatPanicAreFailures(t *testing.T) {
	bubble(t, func(t *testing.T) {
		calls := 0
		n := newNode(t, &membus.Broker{})
		n.register(t, func(context.Context, shared.EntityKey, string) ([][]byte, error) {
			if calls++; calls == 1 {
				var err *nilError
				return nil, err
			}
			return [][]byte{[]byte("fine")}, nil
		}, bridge.EntityOptions{})
		s := newScreen(n, "")
		s.subscribe(t, key, withSnapshot)
		time.Sleep(time.Minute)
		if got := s.rows(); !slices.Equal(got, []string{"fine"}) {
			t.Errorf("saw %q", got)
		}
	})
}

func TestALateForbiddenIsDiscardedToo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		calls := 0
		n := newNode(t, &membus.Broker{})
		n.register(t, func(ctx context.Context, _ shared.EntityKey, _ string) ([][]byte, error) {
			if calls++; calls == 1 {
				<-ctx.Done()
				return nil, shared.ErrForbidden
			}
			return [][]byte{[]byte("allowed")}, nil
		}, bridge.EntityOptions{Timeout: time.Second})
		s := newScreen(n, "")
		s.subscribe(t, key, withSnapshot)
		time.Sleep(time.Minute)
		if got := s.rows(); !slices.Equal(got, []string{"allowed"}) {
			t.Errorf("saw %q, and %d subscriptions are left", got, n.Stats().Subscriptions)
		}
	})
}

// A handler may end its goroutine, as t.FailNow in a test's does.
func TestAHandlerThatEndsItsGoroutineCostsARetry(t *testing.T) {
	bubble(t, func(t *testing.T) {
		calls := 0
		n := newNode(t, &membus.Broker{})
		n.register(t, func(context.Context, shared.EntityKey, string) ([][]byte, error) {
			if calls++; calls == 1 {
				runtime.Goexit()
			}
			return [][]byte{[]byte("fine")}, nil
		}, bridge.EntityOptions{Workers: 1})
		s := newScreen(n, "")
		s.subscribe(t, key, withSnapshot)
		time.Sleep(time.Minute)
		if got := s.rows(); !slices.Equal(got, []string{"fine"}) {
			t.Errorf("saw %q", got)
		}
	})
}

func TestQuotedSecretsStayOutOfTheLog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const secret = "\"quo\\ted\n\x01é/&?"
		n := newNode(t, &membus.Broker{})
		n.register(t, func(_ context.Context, k shared.EntityKey, s string) ([][]byte, error) {
			return nil, fmt.Errorf("no session for %q, %s, %#v", s, s, shared.EntityKey{ID: s})
		}, bridge.EntityOptions{})
		newScreen(n, secret).subscribe(t, key, withSnapshot)
		synctest.Wait()
		if log := n.log.String(); strings.Contains(log, mark) || strings.Contains(log, "quo") || !strings.Contains(log, "redacted") {
			t.Errorf("the log shows the secret:\n%s", log)
		}
	})
}

// A database that is down fails every fetch: the log must bear it.
func TestFailuresInARowAreLoggedSparingly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, &membus.Broker{})
		n.register(t, func(context.Context, shared.EntityKey, string) ([][]byte, error) { panic("down") }, bridge.EntityOptions{})
		s := newScreen(n, "")
		for i := range 1000 {
			s.subscribe(t, shared.EntityKey{Entity: items, ID: fmt.Sprint(i)}, withSnapshot)
		}
		time.Sleep(time.Minute)
		if got := strings.Count(n.log.String(), "fetch failed"); got > 20 {
			t.Errorf("%d lines for %d failures", got, n.Stats().FetchesFailed)
		}
	})
}

// The pump of a function client has taken a row when the secret changes, and a
// subscription notices first.
func TestAFunctionClientsTakenRowIsDroppedWithItsSecret(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var (
			mu      sync.Mutex
			secret  = mark + "old"
			fetched bool // the next to ask is the pump, with the row in its hand
			asked   = make(chan bool)
			goOn    = make(chan bool)
			got     []string
		)
		n := newNode(t, &membus.Broker{})
		n.register(t, func(_ context.Context, k shared.EntityKey, secret string) ([][]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			fetched = fetched || k == key && secret == mark+"old"
			return [][]byte{[]byte(k.ID + " for " + secret)}, nil
		}, bridge.EntityOptions{})
		getSecret := func() string {
			mu.Lock()
			pump := fetched && secret == mark+"old"
			mu.Unlock()
			if pump {
				asked <- true
				<-goOn
			}
			mu.Lock()
			defer mu.Unlock()
			return secret
		}
		sub, _, dc := n.ClientBuilder(func(b []byte) { got = append(got, string(b)) }, getSecret)
		sub(key)
		sub(other)
		n.notify(t, key)
		<-asked
		mu.Lock()
		secret = mark + "new"
		mu.Unlock()
		sub(other) // which notices the new secret
		n.notify(t, other)
		synctest.Wait()
		goOn <- true
		synctest.Wait()
		slices.Sort(got)
		if !slices.Equal(got, []string{"100 for " + mark + "new", "other for " + mark + "new"}) {
			t.Errorf("got %q, want both rows for the new secret", got)
		}
		close(dc)
	})
}

// An empty message from a queue of functions says that some may have been missed.
func TestAnEmptyMessageFromAQueueOfFunctionsIsAGap(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var q ownQueue
		rows := "old"
		b := bridge.BuildBridge(q.publisher, q.subscriber, func(_ shared.EntityKey, _ string, push shared.ByteHandler) { push([]byte(rows)) })
		defer b.Close(t.Context())
		if err := b.RegisterEntityForSync(items); err != nil {
			t.Fatal(err)
		}
		var got []string
		sub, _, dc := b.ClientBuilder(func(b []byte) { got = append(got, string(b)) }, func() string { return mark })
		sub(key)
		rows = "new"
		q.publisher(items)(nil)
		synctest.Wait()
		if !slices.Equal(got, []string{"new"}) {
			t.Errorf("got %q", got)
		}
		close(dc)
	})
}

// A view that is announced as changed between being taken from the queue and being
// fetched is served by that fetch: it does not wait for another.
func TestAViewThatIsBeingFetchedDoesNotWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n, g := newNode(t, &membus.Broker{}), newGate()
		taken := false
		n.register(t, g.fetch, bridge.EntityOptions{Workers: 1, Scope: func(string) string {
			if taken { // by a worker, which asks before it begins
				taken = false
				n.notify(t, key)
			}
			return ""
		}})
		newScreen(n, "").subscribe(t, key, bridge.SubscribeOptions{})
		taken = true
		n.notify(t, key)
		<-g.entered
		if st := n.Stats(); st.FetchesRunning != 1 || st.FetchesQueued != 0 {
			t.Errorf("%d fetches run and %d wait, want the one", st.FetchesRunning, st.FetchesQueued)
		}
		g.release <- row("row")
		synctest.Wait()
		if st := n.Stats(); st.Fetches != 1 || st.FetchesQueued != 0 {
			t.Errorf("%d fetches, and %d wait, want one in all", st.Fetches, st.FetchesQueued)
		}
	})
}

// A client that asked for changes alone, and then for the state as well, is owed it
// from then on: also what differs after its secret has changed.
func TestASnapshotAskedForLaterIsOwedLikeOneAskedForAtFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n, db := newNode(t, &membus.Broker{}), &table{}
		n.register(t, db.fetch, bridge.EntityOptions{})
		s := newScreen(n, "old")
		s.subscribe(t, key, bridge.SubscribeOptions{})
		s.subscribe(t, key, withSnapshot)
		synctest.Wait()
		s.become("new")
		synctest.Wait()
		if got := s.rows(); len(got) != 2 || !strings.Contains(got[1], mark+"new") {
			t.Errorf("saw %q, want the rows of both secrets", got)
		}
	})
}

// A subscription to another entity type that appears while the scopes of a new
// secret are computed has its own scope, not that of those without a secret.
func TestASubscriptionThatAppearsWhileTheSecretChanges(t *testing.T) {
	bubble(t, func(t *testing.T) {
		inScope, goOn := make(chan bool), make(chan bool)
		slow := atomic.Bool{}
		n, db := newNode(t, &membus.Broker{}), &table{}
		n.register(t, db.fetch, bridge.EntityOptions{Scope: func(secret string) string {
			if slow.CompareAndSwap(true, false) {
				inScope <- true
				<-goOn
			}
			return secret
		}})
		if err := n.Register("users", db.fetch, bridge.EntityOptions{}); err != nil {
			t.Fatal(err)
		}
		appears := shared.EntityKey{Entity: "users", ID: "1"}
		nobody := &screen{out: t.Output(), news: make(chan struct{}, 1)}
		nobody.Client = n.NewClient(nobody, bridge.ClientOptions{})
		nobody.subscribe(t, appears, withSnapshot)
		s := newScreen(n, "old")
		s.subscribe(t, key, bridge.SubscribeOptions{})
		slow.Store(true)
		go s.become("new")
		<-inScope
		s.subscribe(t, appears, withSnapshot)
		goOn <- true
		synctest.Wait()
		n.notify(t, appears)
		synctest.Wait()
		if got := s.rows(); len(got) == 0 || !strings.Contains(got[len(got)-1], mark+"new") {
			t.Errorf("saw %q, want it to end with the row of the new secret", got)
		}
	})
}

// late is a client whose Drop can be made to wait, and with it whatever needs the
// client's lock.
type late struct {
	screen
	entered, goOn chan bool
}

func (l *late) Drop(*bridge.Slot) bool {
	if l.entered != nil {
		l.entered <- true
		<-l.goOn
	}
	return false
}

// A view is refused to several clients. While they are asked about one leaves and comes
// back: it must not be unsubscribed by what was found before that.
func TestWhoWasNotToldAfterAllStaysSubscribed(t *testing.T) {
	n, refusing := newNode(t, &membus.Broker{}), newGate()
	var refused, holds atomic.Bool
	asked, goOn := make(chan bool), make(chan bool)
	n.register(t, func(ctx context.Context, k shared.EntityKey, secret string) ([][]byte, error) {
		if refused.CompareAndSwap(false, true) {
			return refusing.fetch(ctx, k, secret)
		}
		return [][]byte{[]byte(secret)}, nil
	}, bridge.EntityOptions{Scope: func(secret string) string {
		if secret == mark+"a1" && holds.CompareAndSwap(true, false) {
			asked <- true
			<-goOn
		}
		return strings.TrimRight(secret, "12")
	}})
	herald, first, second := newScreen(n, "a"), newScreen(n, "a1"), newScreen(n, "a2")
	herald.subscribe(t, key, withSnapshot)
	<-refusing.entered
	first.subscribe(t, key, withSnapshot)
	second.subscribe(t, key, withSnapshot)

	holds.Store(true)
	refusing.release <- func() ([][]byte, error) { return nil, shared.ErrForbidden }
	<-asked
	second.become("b")
	second.become("a2")
	goOn <- true
	for _, told := range []*screen{herald, first} {
		if u := told.waitFor(t, 1)[0]; u.Kind != bridge.KindForbidden {
			t.Errorf("a client that stayed was told %v, want that it was refused", u.Kind)
		}
	}
	for seen := 1; ; seen++ { // perhaps the row of b, and then its own
		all := second.waitFor(t, seen)
		if u := all[seen-1]; u.Kind == bridge.KindRows && string(u.Rows[0]) == mark+"a2" {
			return
		} else if u.Kind == bridge.KindForbidden {
			t.Fatal("the client that came back was refused")
		}
	}
}

// A client that is busy keeps none of those beside it from being told that they are
// refused, nor from asking again.
func TestARefusalWaitsForNoClient(t *testing.T) {
	n, refusing := newNode(t, &membus.Broker{}), newGate()
	var refused atomic.Bool
	n.register(t, func(ctx context.Context, k shared.EntityKey, secret string) ([][]byte, error) {
		if refused.CompareAndSwap(false, true) {
			return refusing.fetch(ctx, k, secret)
		}
		return [][]byte{[]byte(secret)}, nil
	}, bridge.EntityOptions{Scope: public})
	busy := &late{screen: screen{out: t.Output(), news: make(chan struct{}, 1)}}
	busy.Client = n.NewClient(busy, bridge.ClientOptions{Secret: shared.NewSecret(mark)})
	second := newScreen(n, "a2")
	busy.subscribe(t, other, bridge.SubscribeOptions{})
	busy.subscribe(t, key, withSnapshot)
	<-refusing.entered
	second.subscribe(t, key, withSnapshot)

	busy.entered, busy.goOn = make(chan bool), make(chan bool)
	go busy.Unsubscribe(other)
	<-busy.entered // its lock is held
	refusing.release <- func() ([][]byte, error) { return nil, shared.ErrForbidden }
	for _, told := range []*screen{&busy.screen, second} {
		if u := told.waitFor(t, 1)[0]; u.Kind != bridge.KindForbidden {
			t.Errorf("told %v, want that it is refused", u.Kind)
		}
	}
	second.subscribe(t, key, withSnapshot)
	if u := second.waitFor(t, 2)[1]; u.Kind != bridge.KindRows {
		t.Errorf("told %v, want the rows that it asked for again", u.Kind)
	}
	busy.goOn <- true
}

// A client that is told that it may not see a key any more may ask for it again at
// once, and for another in its place. The engine let go of the subscription a moment
// after it had told: one in that moment counted as had, and was then ended.
func TestWhoIsRefusedMayAskAgainAtOnce(t *testing.T) {
	for name, next := range map[string]shared.EntityKey{"for the same": key, "for another in its place": other} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int64
			n := newNode(t, &membus.Broker{})
			n.register(t, func(context.Context, shared.EntityKey, string) ([][]byte, error) {
				if asked.Add(1) == 1 {
					return nil, shared.ErrForbidden
				}
				return [][]byte{[]byte("row")}, nil
			}, bridge.EntityOptions{})
			told, again := make(chan struct{}, 10), make(chan error, 10)
			c := &hooked{}
			c.Client = n.NewClient(c, bridge.ClientOptions{MaxSubscriptions: 1})
			c.hook = func() {
				if told <- struct{}{}; len(told) == 1 {
					go func() { again <- c.Subscribe(next, withSnapshot) }()
					time.Sleep(10 * time.Millisecond) // in which it comes as far as it can
				}
			}
			if err := c.Subscribe(key, withSnapshot); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-again:
				if err != nil {
					t.Fatal(err)
				}
			case <-time.After(patience):
				t.Fatal("it was not told that it was refused")
			}
			testkit.Until(t, "what it asked for afterwards comes", func() bool { return len(told) >= 2 })
		})
	}
}

// While a result is handed out the view is locked, and who subscribes to its key waits with
// a lock of the index. Those who announce changes wait for neither.
func TestAnnouncingWaitsForNoFanOut(t *testing.T) {
	var db table
	n := newNode(t, &membus.Broker{})
	n.register(t, db.fetch, bridge.EntityOptions{Scope: public})
	entered, goOn := make(chan bool), make(chan bool)
	var first sync.Once
	slow := &hooked{hook: func() {
		first.Do(func() {
			entered <- true
			<-goOn
		})
	}}
	slow.Client = n.NewClient(slow, bridge.ClientOptions{})
	bystander, late := newScreen(n, ""), newScreen(n, "")
	if err := slow.Subscribe(key, bridge.SubscribeOptions{}); err != nil {
		t.Fatal(err)
	}
	bystander.subscribe(t, other, bridge.SubscribeOptions{})
	db.write(key)
	n.notify(t, key)
	<-entered
	subscribed := make(chan error)
	go func() { subscribed <- late.Subscribe(key, withSnapshot) }()

	announced := make(chan bool)
	go func() {
		for range 1000 {
			db.write(key)
			n.notify(t, key, other)
		}
		announced <- true
	}()
	select {
	case <-announced:
	case <-time.After(patience):
		t.Error("announcing waits for a client that is being pushed to")
	}
	bystander.waitFor(t, 1)
	goOn <- true
	if err := <-subscribed; err != nil {
		t.Fatal(err)
	}
	for seen := 1; ; seen++ { // what was announced meanwhile is not forgotten
		if got := string(late.waitFor(t, seen)[seen-1].Rows[0]); strings.Contains(got, `"rev":1001`) {
			return
		} else if seen > 1001 {
			t.Fatalf("ends with %s, want the row of the last change", got)
		}
	}
}
