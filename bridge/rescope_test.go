package bridge_test

import (
	"context"
	"errors"
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

// tenancy says in memory which tenant each user belongs to. The steps of its clock are
// the moves and the reads.
type tenancy struct {
	mu    sync.Mutex
	step  int
	of    map[string]string
	since map[[2]string]int // user and tenant
	until map[[2]string]int // where the user has left
}

func newTenancy() *tenancy {
	return &tenancy{of: map[string]string{}, since: map[[2]string]int{}, until: map[[2]string]int{}}
}

func (x *tenancy) move(user, to string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.step++
	if from, known := x.of[user]; known {
		x.until[[2]string{user, from}] = x.step
	}
	x.of[user] = to
	x.since[[2]string{user, to}] = x.step
}

// scope is the tenant of a user now.
func (x *tenancy) scope(user string) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.of[user]
}

// row is of the tenant that the user belongs to now, and says when that was.
func (x *tenancy) row(user string) []byte {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.step++
	return fmt.Appendf(nil, "%s %d", x.of[user], x.step)
}

// foreign reports whether a row is of a tenant that the user had not belonged to yet, or
// had left before the row was read.
func (x *tenancy) foreign(user string, row []byte) bool {
	var tenant string
	var read int
	if _, err := fmt.Sscanf(string(row), "%s %d", &tenant, &read); err != nil {
		return true
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	place := [2]string{user, tenant}
	until, left := x.until[place]
	return x.since[place] == 0 || left && until < read
}

// A scope function may end its goroutine, as t.FailNow in a test's does, wherever it is
// called: that costs a retry.
func TestAScopeFunctionThatEndsItsGoroutineCostsARetry(t *testing.T) {
	for at := range 4 { // of its calls once both clients are there, of two keys that are fetched together
		bubble(t, func(t *testing.T) {
			var revision, calls atomic.Int64
			var armed atomic.Bool
			n := newNode(t, &membus.Broker{})
			scope := func(string) string {
				if armed.Load() && calls.Add(1) == int64(at)+1 {
					runtime.Goexit()
				}
				return "all"
			}
			fetch := func(_ context.Context, requests []shared.FetchRequest) []shared.FetchResult {
				results := make([]shared.FetchResult, len(requests))
				for i := range requests {
					results[i].Rows = [][]byte{fmt.Append(nil, revision.Load())}
				}
				return results
			}
			if err := n.RegisterBatch(key.Entity, fetch, bridge.EntityOptions{Workers: 1, Scope: scope}); err != nil {
				t.Fatal(err)
			}
			other := shared.EntityKey{Entity: key.Entity, ID: "another"}
			one, two := newScreen(n, "one"), newScreen(n, "two")
			one.subscribe(t, key, withSnapshot)
			two.subscribe(t, other, withSnapshot)
			synctest.Wait()
			revision.Store(1)
			armed.Store(true)
			n.notify(t, key, other)
			time.Sleep(time.Minute)
			for _, s := range []*screen{one, two} {
				if rows := s.rows(); rows[len(rows)-1] != "1" {
					t.Errorf("where call %d ends its goroutine a client ends with %q", at+1, rows)
				}
			}
			if calls.Load() <= int64(at) {
				t.Errorf("the scope function was called %d times: call %d never came", calls.Load(), at+1)
			}
			if st := n.Stats(); st.FetchesRunning != 0 {
				t.Errorf("%d fetches seem to run for ever", st.FetchesRunning)
			}
		})
	}
}

// A user moves to another tenant and back during the fetch, so that the end of the fetch
// shows nothing of it. No fetch for the first tenant is made with the user's secret then,
// because the secret is asked about when the fetch begins.
func TestAFetchIsNotBegunWithASecretWhoseScopeHasChanged(t *testing.T) {
	bubble(t, func(t *testing.T) {
		who := newTenancy()
		who.move(mark+"mover", "one")
		who.move(mark+"resident", "one")
		var moved atomic.Bool
		n := newNode(t, &membus.Broker{})
		n.register(t, func(_ context.Context, _ shared.EntityKey, user string) ([][]byte, error) {
			row := []byte(who.scope(user))
			if user == mark+"mover" && moved.Swap(false) {
				who.move(user, "one")
			}
			return [][]byte{row}, nil
		}, bridge.EntityOptions{Scope: who.scope})
		mover, resident := newScreen(n, "mover"), newScreen(n, "resident") // the first member is fetched with
		mover.subscribe(t, key, withSnapshot)
		synctest.Wait()
		resident.subscribe(t, key, withSnapshot)
		synctest.Wait()
		who.move(mark+"mover", "two")
		moved.Store(true)
		n.notify(t, key)
		time.Sleep(time.Minute)
		if moved.Load() {
			t.Error("nothing was fetched for who moved")
		}
		if rows := resident.rows(); slices.Contains(rows, "two") {
			t.Errorf("who stayed was handed %q", rows)
		}
	})
}

// inspector is a client that counts what it is handed and what of it is foreign.
type inspector struct {
	user            string
	tenants         *tenancy
	frames, foreign *atomic.Int64

	mu   sync.Mutex
	last map[string]string // of each key, the tenant that the row is of
}

func (i *inspector) Push(_ *bridge.Slot, u *bridge.Update) {
	i.frames.Add(1)
	if i.tenants.foreign(i.user, u.Rows[0]) {
		i.foreign.Add(1)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.last[u.Key.ID], _, _ = strings.Cut(string(u.Rows[0]), " ")
}

func (i *inspector) Drop(*bridge.Slot) bool { return false }

// Users move to other tenants before, while and after their secrets are fetched with.
// No client is handed a row of another tenant. Once the change is announced, each client has
// a row of its user's tenant.
func TestAScopeThatChangesGivesNobodyElsesRows(t *testing.T) {
	const (
		tenants, residents, movers = 12, 40, 60
		keys                       = 4
		frames                     = 200_000
	)
	ctx := context.Background()
	who, handed, foreign := newTenancy(), &atomic.Int64{}, &atomic.Int64{}
	tenant := func(i int) string { return fmt.Sprint("tenant", i) }
	var over atomic.Bool
	var moving sync.Mutex
	next := map[string]int{} // the tenant that each mover goes to next
	for m := range movers {
		next[fmt.Sprint(mark, "mover ", m)] = 1
	}
	// Each moves in one direction only: who is back would not be told from who stayed.
	moveOn := func(user string) {
		moving.Lock()
		defer moving.Unlock()
		if n := next[user]; n > 0 && n < tenants && !over.Load() {
			next[user]++
			who.move(user, tenant(n))
		}
	}
	var fetches atomic.Int64
	n := newNodeWith(t, &membus.Broker{}, bridge.Config{PublishTimeout: patience})
	n.register(t, func(_ context.Context, _ shared.EntityKey, user string) ([][]byte, error) {
		fetch := fetches.Add(1)
		if fetch%16 == 0 {
			moveOn(user)
		}
		row := who.row(user)
		if fetch%16 == 8 {
			moveOn(user)
		}
		return [][]byte{row}, nil
	}, bridge.EntityOptions{Scope: who.scope})

	var all []*inspector
	join := func(user, at string) {
		who.move(user, at)
		i := &inspector{user: user, tenants: who, frames: handed, foreign: foreign, last: map[string]string{}}
		c := n.NewClient(i, bridge.ClientOptions{Secret: shared.NewSecret(user)})
		t.Cleanup(c.Close)
		for id := range keys {
			if err := c.Subscribe(shared.EntityKey{Entity: items, ID: fmt.Sprint(id)}, withSnapshot); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, i)
	}
	for m := range movers { // they are the first of their views, so that it is their secrets that are fetched with
		join(fmt.Sprint(mark, "mover ", m), tenant(0))
	}
	for r := range residents * tenants {
		join(fmt.Sprint(mark, "resident ", r), tenant(r%tenants))
	}
	settled := func() bool {
		s := n.Stats()
		return s.FetchesQueued+s.FetchesRunning == 0
	}
	wait := func() {
		t.Helper()
		testkit.Until(t, "nothing is to be fetched any more", settled)
	}
	for round := 0; handed.Load() < frames; round++ {
		user := fmt.Sprint(mark, "mover ", round%movers)
		moveOn(user)
		for id := range keys {
			if err := n.Notify(ctx, shared.EntityKey{Entity: items, ID: fmt.Sprint(id)}); err != nil {
				t.Fatal(err)
			}
		}
		if round%8 == 7 { // or they are fetched once for many changes
			wait()
		}
	}
	over.Store(true)
	wait()
	for id := range keys { // everybody who has moved meanwhile
		n.notify(t, shared.EntityKey{Entity: items, ID: fmt.Sprint(id)})
	}
	wait()
	if foreign.Load() > 0 {
		t.Errorf("%d of %d frames are somebody else's rows", foreign.Load(), handed.Load())
	}
	for _, i := range all {
		i.mu.Lock()
		for id, got := range i.last {
			if want := who.scope(i.user); got != want {
				t.Errorf("a user has a row of %q for key %s, and belongs to %q", got, id, want)
			}
		}
		i.mu.Unlock()
	}
}

// A member moves while a fetch is made with its secret, and the handler says that it may
// not see the rows. The other members' subscriptions go on.
func TestAScopeThatChangesDuringAFetchEndsNobodyElsesSubscription(t *testing.T) {
	bubble(t, func(t *testing.T) {
		who, entered, release := newTenancy(), make(chan string), make(chan bool)
		held := true // the first fetch
		n := newNode(t, &membus.Broker{})
		n.register(t, func(_ context.Context, _ shared.EntityKey, user string) ([][]byte, error) {
			if held {
				held = false
				entered <- user
				<-release
				return nil, shared.ErrForbidden
			}
			return [][]byte{[]byte("row for " + user)}, nil
		}, bridge.EntityOptions{Scope: who.scope})
		who.move(mark+"mover", "old")
		who.move(mark+"resident", "old")
		mover, resident := newScreen(n, "mover"), newScreen(n, "resident")
		mover.subscribe(t, key, bridge.SubscribeOptions{})
		resident.subscribe(t, key, bridge.SubscribeOptions{})
		n.notify(t, key)
		if got := <-entered; got != mark+"mover" {
			t.Fatalf("fetched with the secret of %q, want the first member's", got)
		}
		who.move(mark+"mover", "new")
		release <- true
		synctest.Wait()
		for s, want := range map[*screen]string{mover: "mover", resident: "resident"} {
			if got := s.rows(); !slices.Equal(got, []string{"row for " + mark + want}) {
				t.Errorf("the %s saw %q", want, got)
			}
			if len(s.Keys()) != 1 {
				t.Errorf("the %s is not subscribed any more", want)
			}
		}
		// Before a fetch, too: it is made with the secret of one who stayed.
		third := newScreen(n, "resident")
		third.subscribe(t, key, bridge.SubscribeOptions{})
		who.move(mark+"resident", "third")
		n.notify(t, key)
		synctest.Wait()
		if got := n.Stats().Views; got != 2 {
			t.Errorf("%d views for two scopes", got)
		}
		if got := third.rows(); !slices.Equal(got, []string{"row for " + mark + "resident"}) {
			t.Errorf("who had moved before the fetch saw %q", got)
		}
	})
}

// A client joins a view whose members are being asked for their scopes, and moves while
// they are: it was not asked, so it is not handed what was fetched before.
func TestWhoJoinsWhileScopesAreAskedIsNotHandedTheResult(t *testing.T) {
	bubble(t, func(t *testing.T) {
		who := newTenancy()
		asked, goOn := make(chan bool), make(chan bool)
		var slow atomic.Bool
		n := newNode(t, &membus.Broker{})
		n.register(t, func(_ context.Context, _ shared.EntityKey, user string) ([][]byte, error) {
			if user == mark+"first" {
				slow.CompareAndSwap(false, true)
			}
			return [][]byte{who.row(user)}, nil
		}, bridge.EntityOptions{Scope: func(user string) string {
			if user == mark+"first" && slow.Load() {
				asked <- true
				<-goOn
			}
			return who.scope(user)
		}})
		who.move(mark+"first", "old")
		who.move(mark+"late", "old")
		first, late := newScreen(n, "first"), newScreen(n, "late")
		first.subscribe(t, key, withSnapshot)
		<-asked // it was fetched for the first
		late.subscribe(t, key, withSnapshot)
		who.move(mark+"late", "new")
		goOn <- true
		for done := false; !done; { // the first is asked again for the next fetch
			synctest.Wait()
			select {
			case <-asked:
				goOn <- true
			default:
				done = true
			}
		}
		for _, r := range late.rows() {
			if !strings.HasPrefix(r, "new ") {
				t.Errorf("who joined late saw %q", r)
			}
		}
		if len(late.rows()) == 0 || len(first.rows()) == 0 {
			t.Errorf("the late one saw %q, the first %q", late.rows(), first.rows())
		}
	})
}

// A scope function that never says the same twice costs no more than none.
func TestAScopeFunctionThatNeverAgreesSharesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var asked atomic.Int64
		var db table
		n := newNode(t, &membus.Broker{})
		n.register(t, db.fetch, bridge.EntityOptions{Scope: func(string) string { return fmt.Sprint(asked.Add(1)) }})
		a, b := newScreen(n, "a"), newScreen(n, "b")
		for _, s := range []*screen{a, b} {
			s.subscribe(t, key, withSnapshot)
		}
		synctest.Wait()
		before := db.count()
		for range 10 {
			db.write(key)
			n.notify(t, key)
			synctest.Wait()
		}
		if got := db.count() - before; got != 20 {
			t.Errorf("%d fetches for 10 changes that two watch, want 20", got)
		}
		for s, name := range map[*screen]string{a: "a", b: "b"} {
			rows := s.rows()
			if want := fmt.Sprintf(`{"id":"100","rev":10,"for":"%s%s"}`, mark, name); rows[len(rows)-1] != want {
				t.Errorf("saw %q in the end, want %q", rows[len(rows)-1], want)
			}
		}
		time.Sleep(time.Minute)
		if got := n.Stats(); got.FetchesRunning+got.FetchesQueued != 0 {
			t.Errorf("%+v after a minute", got)
		}
	})
}

// The parts of a batch that failed are fetched one after the other. A scope that changes for
// one of them, and back before the last, gives nobody what was read in between.
func TestAScopeThatChangesForAPartOfABatch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var role atomic.Value
		role.Store("own")
		waiting, parts := make(chan struct{}), 0 // the latter of the one worker
		n := newNode(t, &membus.Broker{})
		err := n.RegisterBatch(items, func(_ context.Context, requests []shared.FetchRequest) []shared.FetchResult {
			results := make([]shared.FetchResult, len(requests))
			switch {
			case requests[0].Key.ID == "wait":
				<-waiting
			case len(requests) > 1:
				for i := range results {
					results[i].Err = errors.New("broken")
				}
				role.Store("another's")
			default:
				results[0].Rows = [][]byte{[]byte(role.Load().(string))}
				if parts++; parts == 1 {
					role.Store("own")
				}
			}
			return results
		}, bridge.EntityOptions{Workers: 1, Scope: func(string) string { return role.Load().(string) }})
		if err != nil {
			t.Fatal(err)
		}
		s := newScreen(n, "me")
		s.subscribe(t, shared.EntityKey{Entity: items, ID: "wait"}, withSnapshot)
		synctest.Wait()
		s.subscribe(t, key, bridge.SubscribeOptions{})
		s.subscribe(t, other, bridge.SubscribeOptions{})
		n.notify(t, key, other)
		synctest.Wait()
		close(waiting)
		time.Sleep(time.Hour)
		synctest.Wait()
		rows := s.rows()
		if len(rows) < 2 || slices.Contains(rows, "another's") {
			t.Errorf("the client saw %q, want its own rows of both keys alone", rows)
		}
	})
}
