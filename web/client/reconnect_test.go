package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web"
	"github.com/entity-sync/entity-sync/web/client"
)

// The connection breaks and is made again: nothing that is shown goes away
// meanwhile, and what has not changed is not sent again.
func TestADroppedSocketDoesNotFlicker(t *testing.T) {
	w := start(t, es.Config{})
	w.table.write("1")
	c := w.dial(client.Options{Secret: canary})
	v := watch(t, c, "1")
	v.untilRev(1)
	gone := watch(t, c, "2")
	gone.until("nothing there", func(u client.Update) bool { return u.Deleted && u.State == client.Live })
	for range 5 {
		before := len(v.all())
		w.line.cut()
		testkit.Until(t, "it is noticed", func() bool { return len(v.all()) > before })
		v.untilState(client.Live)
		gone.until("nothing there", func(u client.Update) bool { return u.Deleted && u.State == client.Live })
	}
	for _, u := range v.all() {
		if revOf(u) != 1 || u.State == client.Connecting || u.State == client.Denied {
			t.Fatalf("it flickered: %s", v)
		}
	}
	w.change(t, "1")
	v.untilRev(2)
	v.neverBack()
}

// Offline while a hundred changes are written: the last of them is what is shown
// afterwards, and none of them before.
func TestOfflineDuringAHundredChanges(t *testing.T) {
	w := start(t, es.Config{})
	w.table.write("1")
	c := w.dial(client.Options{})
	v := watch(t, c, "1")
	v.untilRev(1)
	w.line.setDown(true)
	if u := v.untilState(client.Offline); revOf(u) != 1 {
		t.Errorf("offline shows %+v", u)
	}
	for range 100 {
		w.change(t, "1")
		time.Sleep(time.Millisecond) // attempts that fail go on meanwhile
	}
	if u, _ := v.sub.Latest(); u.State != client.Offline || revOf(u) != 1 {
		t.Errorf("meanwhile it shows %+v", u)
	}
	w.line.setDown(false)
	v.untilRev(101)
	v.neverBack()
	if got, want := strings.ReplaceAll(v.String(), " stale(1)", ""), "live(1) offline(1) live(101)"; got != want { // stale may be too short to be seen
		t.Errorf("shown %s, want %s", v, want)
	}
}

// A thousand keys that have not changed cost no row after a reconnect.
func TestAThousandKeysAreResumedWithoutRows(t *testing.T) {
	const keys = 1000
	w := start(t, es.Config{})
	w.table.width = 500
	c := w.dial(client.Options{})
	var views []*view
	for i := range keys {
		w.table.write(strconv.Itoa(i))
		views = append(views, watch(t, c, strconv.Itoa(i)))
	}
	for _, v := range views {
		v.untilRev(1)
	}
	rows := w.line.received.Load()
	fetches := w.Bridge.Stats().Fetches
	w.line.cut()
	for _, v := range views {
		v.until("the confirmation", func(u client.Update) bool { return u.State == client.Live && len(v.all()) > 1 })
	}
	resumed := w.line.received.Load() - rows
	t.Logf("%d keys: %d bytes at first, %d bytes to resume, %d fetches", keys, rows, resumed, w.Bridge.Stats().Fetches-fetches)
	if resumed > keys*130 || resumed*4 > rows {
		t.Errorf("resuming took %d bytes, %d a key", resumed, resumed/keys)
	}
	w.table.write("7") // one change while away costs one row
	rows = w.line.received.Load()
	w.line.cut()
	views[7].untilRev(2)
	if got := w.line.received.Load() - rows; got > keys*130+1000 {
		t.Errorf("resuming with one change took %d bytes", got)
	}
}

// A node that shuts down says when to come back, and the next one serves on.
func TestADrainedNode(t *testing.T) {
	w := start(t, es.Config{})
	w.table.write("1")
	c := w.dial(client.Options{RetryMin: time.Hour, RetryMax: time.Hour}) // only the hint brings it back in time
	v := watch(t, c, "1")
	v.untilRev(1)
	old := w.node
	w.serve(startNode(t, old.table, old.broker, es.Config{}))
	old.stop(t)
	v.until("it noticed", func(u client.Update) bool { return len(v.all()) > 1 })
	w.change(t, "1")
	v.untilRev(2)
	for _, u := range v.all() {
		if u.State == client.Offline || revOf(u) == 0 {
			t.Errorf("shown %s", v)
		}
	}
}

// Who is refused for now comes back, not before it is told to.
func TestAServerThatIsFull(t *testing.T) {
	t.Parallel()
	w := start(t, es.Config{})
	var refused atomic.Int64
	w.answer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if refused.Add(1) > 2 {
			w.answer(w.node)
		}
		rw.Header().Set("Retry-After", "1")
		rw.WriteHeader(http.StatusServiceUnavailable)
	}))
	begin := time.Now()
	c, err := client.New(w.server.URL, w.options(client.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if s := untilStatus(t, c, client.Offline); !errors.Is(s.Err, client.ErrUnavailable) {
		t.Errorf("offline because of %v", s.Err)
	}
	untilStatus(t, c, client.Live)
	if took := time.Since(begin); took < 3*time.Second {
		t.Errorf("it was let in after %v: it did not wait a second three times", took)
	}
}

// A secret that is withdrawn ends it: what was shown goes, and nobody comes back.
func TestARevokedSecret(t *testing.T) {
	w := start(t, es.Config{})
	w.table.write("1")
	c := w.dial(client.Options{Secret: canary})
	v := watch(t, c, "1")
	v.untilRev(1)
	if err := w.Revoke(t.Context(), canary); err != nil {
		t.Fatal(err)
	}
	s := untilStatus(t, c, client.Denied)
	if !errors.Is(s.Err, client.ErrRevoked) {
		t.Errorf("denied with %v", s.Err)
	}
	<-v.done // its loop has ended
	last := v.all()[len(v.all())-1]
	if last.State != client.Denied || last.Rows != nil || !errors.Is(last.Err, client.ErrRevoked) {
		t.Errorf("the last that was shown is %+v", last)
	}
	if _, err := client.Get[row](t.Context(), c, key("2")); !errors.Is(err, client.ErrRevoked) {
		t.Errorf("Get afterwards returned %v", err)
	}
	if got := w.line.dials.Load(); got != 1 {
		t.Errorf("it came back: %d connections", got)
	}
}

// A client that is asked to connect anew does.
func TestADisconnectedClientComesBack(t *testing.T) {
	w := start(t, es.Config{})
	w.table.write("1")
	v := watch(t, w.dial(client.Options{Secret: canary}), "1")
	v.untilRev(1)
	if err := w.Disconnect(t.Context(), canary); err != nil {
		t.Fatal(err)
	}
	v.until("it is back", func(u client.Update) bool { return u.State == client.Live && w.line.dials.Load() == 2 })
}

// tokens are secrets that do not last.
type tokens struct {
	mu     sync.Mutex
	lives  time.Duration
	given  int
	broken bool // none can be had
	until  map[string]time.Time
}

func (s *tokens) next(context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return "", errors.New("no token: " + canary)
	}
	s.given++
	token := fmt.Sprint(canary, " ", s.given)
	if s.until == nil {
		s.until = map[string]time.Time{}
	}
	s.until[token] = time.Now().Add(s.lives)
	return token, nil
}

func (s *tokens) verify(_ context.Context, token string) (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if until, ok := s.until[token]; ok && time.Now().Before(until) {
		return until, nil
	}
	return time.Time{}, shared.ErrUnauthenticated
}

func (s *tokens) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.given
}

func (s *tokens) setBroken(broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = broken
}

// A secret that expires is replaced in place, again and again.
func TestASecretIsRenewedInPlace(t *testing.T) {
	t.Parallel()
	source := tokens{lives: 4 * time.Second}
	w := start(t, es.Config{VerifySecret: source.verify, Web: web.Config{RequireSecret: true}})
	w.table.write("1")
	c := w.dial(client.Options{SecretFunc: source.next})
	v := watch(t, c, "1")
	v.untilRev(1)
	testkit.Until(t, "it was renewed twice, and the first had expired", func() bool { return source.count() > 2 })
	w.change(t, "1")
	v.untilRev(2)
	if got := w.line.dials.Load(); got != 1 {
		t.Errorf("it took %d connections", got)
	}
	for _, u := range v.all() {
		if u.State != client.Live {
			t.Errorf("shown %s", v)
			break
		}
	}
	if u, _ := v.sub.Latest(); strings.Contains(string(u.Rows[0]), canary+" 1\"") {
		t.Errorf("the row is %s, fetched with the first secret", u.Rows[0])
	}
}

// No new secret can be had for a while: the connection ends with the old one, and
// is there again with the next.
func TestASecretThatCannotBeRenewed(t *testing.T) {
	t.Parallel()
	source := tokens{lives: 2 * time.Second}
	w := start(t, es.Config{VerifySecret: source.verify, Web: web.Config{RequireSecret: true}})
	w.table.write("1")
	c := w.dial(client.Options{SecretFunc: source.next})
	v := watch(t, c, "1")
	v.untilRev(1)
	source.setBroken(true)
	if u := v.untilState(client.Offline); revOf(u) != 1 {
		t.Errorf("shown %s", v)
	}
	if s := untilStatus(t, c, client.Offline); s.Err == nil || !strings.Contains(s.Err.Error(), "no token") {
		t.Errorf("offline because of %v", s.Err)
	}
	source.setBroken(false)
	v.untilRev(1)
	if !strings.Contains(w.log.String(), "4401") {
		t.Errorf("the log does not say that the secret has expired:\n%s", w.log)
	}
}

// One that does not change has no other to offer.
func TestAFixedSecretThatExpires(t *testing.T) {
	t.Parallel()
	source := tokens{lives: 2 * time.Second}
	w := start(t, es.Config{VerifySecret: source.verify})
	token, _ := source.next(t.Context())
	c := w.dial(client.Options{Secret: token})
	if s := untilStatus(t, c, client.Denied); !errors.Is(s.Err, shared.ErrUnauthenticated) {
		t.Errorf("denied with %v", s.Err)
	}
}

// The server looks at the request and takes no secret in a message: each
// connection brings new credentials.
func TestCredentialsInTheRequest(t *testing.T) {
	t.Parallel()
	source := tokens{lives: 2 * time.Second}
	w := start(t, es.Config{Authenticate: func(r *http.Request) (string, time.Time, error) {
		token := r.Header.Get("Authorization")
		expires, err := source.verify(r.Context(), token)
		return token, expires, err
	}})
	w.table.write("1")
	c := w.dial(client.Options{Header: func(ctx context.Context) (http.Header, error) {
		token, err := source.next(ctx)
		return http.Header{"Authorization": {token}}, err
	}})
	v := watch(t, c, "1")
	v.untilRev(1)
	testkit.Until(t, "it was renewed twice", func() bool { return w.line.dials.Load() > 2 })
	v.untilRev(1)
	for _, u := range v.all() {
		if revOf(u) != 1 {
			t.Errorf("it flickered: %s", v)
			break
		}
	}
	source.setBroken(true)
	if s := untilStatus(t, c, client.Offline); s.Err == nil || !strings.Contains(s.Err.Error(), "Header: no token") {
		t.Errorf("offline because of %v", s.Err)
	}

	_, err := client.Dial(t.Context(), w.server.URL, w.options(client.Options{Secret: canary}))
	if !errors.Is(err, shared.ErrUnauthenticated) {
		t.Errorf("without the header Dial returned %v", err)
	}
}

// The server says when it cannot vouch for what it has sent, and when it can again.
func TestStaleAndFresh(t *testing.T) {
	w := start(t, es.Config{})
	w.table.write("1")
	c := w.dial(client.Options{})
	v := watch(t, c, "1")
	v.untilRev(1)
	w.broker.SetDown(true)
	if u := v.untilState(client.Stale); revOf(u) != 1 {
		t.Errorf("stale shows %+v", u)
	}
	untilStatus(t, c, client.Stale)
	told := len(v.all())
	w.table.write("1")
	w.broker.SetDown(false)
	v.untilRev(2)
	untilStatus(t, c, client.Live)
	for _, u := range v.all()[told:] {
		if u.State == client.Live && revOf(u) == 1 {
			t.Errorf("what was missed was said to be fresh: %s", v)
		}
	}
}

// A server that is there and says nothing any more is given up.
func TestAHalfOpenConnectionIsNoticed(t *testing.T) {
	t.Parallel()
	w := start(t, es.Config{})
	w.table.write("1")
	c := w.dial(client.Options{PingInterval: 200 * time.Millisecond, PongWait: 2 * time.Second})
	v := watch(t, c, "1")
	v.untilRev(1)
	time.Sleep(3 * time.Second) // pings are answered: the connection holds
	if got := w.line.dials.Load(); got != 1 {
		t.Fatalf("%d connections though the server answers", got)
	}
	w.line.freeze()
	w.change(t, "1")
	v.untilRev(2)
	v.neverBack()
	if got := w.line.dials.Load(); got < 2 {
		t.Errorf("%d connections", got)
	}
}

// Close does not wait for a server that answers nothing.
func TestCloseOfAHalfOpenConnection(t *testing.T) {
	w := start(t, es.Config{})
	c := w.dial(client.Options{})
	w.line.freeze()
	begin := time.Now()
	c.Close()
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("Close took %v", took)
	}
}

// A great many long keys are asked for in messages that the server takes.
func TestSubscriptionsAreSentInPieces(t *testing.T) {
	w := start(t, es.Config{Web: web.Config{MaxMessageBytes: 2 << 10, MaxSubscriptions: 2000}})
	w.line.setDown(true)
	c, err := client.New(w.server.URL, w.options(client.Options{MaxMessageBytes: 2 << 10}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var views []*view
	for i := range 500 {
		id := strings.Repeat(`"`, 200) + strconv.Itoa(i)
		w.table.write(id)
		views = append(views, watch(t, c, id))
	}
	w.line.setDown(false)
	for _, v := range views {
		v.untilRev(1)
	}
	for _, v := range views {
		v.sub.Close()
	}
	testkit.Until(t, "the server was told", func() bool { return w.Bridge.Stats().Subscriptions == 0 })
	if got := w.line.dials.Load(); got != 1 {
		t.Errorf("it took %d connections", got)
	}
}

// Whatever happens to the connection and the rows, nobody is ever shown something
// older than before, and all end with what is there.
func TestNoSequenceOfDisconnectsGoesBack(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		broker, tab := &membus.Broker{}, &table{}
		w := start(t, es.Config{})
		here := w.node
		w.serve(startNode(t, tab, broker, es.Config{}))
		here.stop(t)
		c := w.dial(client.Options{RetryMin: time.Millisecond, RetryMax: 4 * time.Millisecond})
		defer c.Close()
		ids := []string{"1", "2", "3"}
		var views []*view
		for _, id := range ids {
			tab.write(id)
			views = append(views, watch(t, c, id), watch(t, c, id))
		}
		down := false
		for _, step := range rapid.SliceOfN(rapid.IntRange(0, 9), 1, 40).Draw(r, "steps") {
			id := ids[step%len(ids)]
			switch {
			case step < 4:
				w.change(t, id)
			case step == 4:
				w.line.cut()
			case step == 5:
				down = !down
				w.line.setDown(down)
			case step == 6: // another node
				old := w.node
				w.serve(startNode(t, tab, broker, es.Config{}))
				w.line.cut() // rather than wait for what the old one says of when to come back
				old.stop(t)
			case step == 7:
				views = append(views, watch(t, c, id))
			case step == 8:
				views[0].sub.Close()
				views = views[1:]
				if len(views) == 0 {
					views = append(views, watch(t, c, id))
				}
			case step == 9:
				time.Sleep(time.Millisecond)
			}
		}
		w.line.setDown(false)
		for _, id := range ids {
			w.change(t, id)
		}
		for _, v := range views {
			v.untilRev(w.table.revs[v.sub.Key().ID])
			v.neverBack()
			states := []client.State{}
			for _, u := range v.all() {
				states = append(states, u.State)
			}
			if slices.Contains(states, client.Denied) {
				r.Fatalf("denied: %s", v)
			}
		}
	})
}
