package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web"
	"github.com/entity-sync/entity-sync/web/client"
)

// A row is shown, changed, deleted and made anew.
func TestARowFromItsBirthToItsReturn(t *testing.T) {
	w := start(t, es.Config{})
	c := w.dial(client.Options{Secret: canary})
	v := watch(t, c, "1")
	v.until("nothing there", func(u client.Update) bool { return u.Deleted && u.State == client.Live })
	w.change(t, "1")
	v.untilRev(1)
	w.change(t, "1")
	v.untilRev(2)
	w.table.remove("1")
	w.tell(t, "1")
	v.until("the deletion", func(u client.Update) bool { return u.Deleted })
	w.change(t, "1")
	v.untilRev(4)
	w.tell(t, "1") // nothing changed: nobody is told
	w.change(t, "1")
	v.untilRev(5)
	if got, want := v.String(), "live(deleted) live(1) live(2) live(deleted) live(4) live(5)"; got != want {
		t.Errorf("shown %s, want %s", got, want)
	}
	if u, _ := v.sub.Latest(); !strings.Contains(string(u.Rows[0]), canary) {
		t.Errorf("the row is %s, fetched for somebody else", u.Rows[0])
	}
}

func TestWatchAndGet(t *testing.T) {
	w := start(t, es.Config{})
	c := w.dial(client.Options{})
	if _, err := client.Get[row](t.Context(), c, key("1")); !errors.Is(err, shared.ErrNotFound) {
		t.Errorf("Get of nothing returned %v", err)
	}
	w.table.write("1")
	testkit.Until(t, "the server was told", func() bool { return w.Bridge.Stats().Subscriptions == 0 })
	if got, err := client.Get[row](t.Context(), c, key("1")); err != nil || got.Rev != 1 {
		t.Errorf("Get returned %+v, %v", got, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var seen []string
	for got, err := range client.Watch[row](ctx, c, key("1")) {
		seen = append(seen, fmt.Sprint(got.Rev, " ", err))
		switch len(seen) {
		case 1:
			w.line.cut() // of which a watcher of rows sees nothing
			testkit.Until(t, "it is back", func() bool { return w.line.dials.Load() == 2 })
			w.change(t, "1")
		case 2:
			w.table.remove("1")
			w.tell(t, "1")
		case 3:
			w.table.hide("1", true)
			w.tell(t, "1")
		}
		if len(seen) == 4 {
			break
		}
	}
	want := "1 <nil>, 2 <nil>, 0 entity not found, 0 forbidden: this secret may not see it"
	if got := strings.Join(seen, ", "); got != want {
		t.Errorf("saw %s, want %s", got, want)
	}
	testkit.Until(t, "the server was told", func() bool { return w.Bridge.Stats().Subscriptions == 0 })

	w.table.hide("1", false)
	w.table.write("1")
	if _, err := client.Get[int](t.Context(), c, key("1")); err == nil || errors.Is(err, shared.ErrNotFound) {
		t.Errorf("a row that is no int returned %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client.Get[row](ended, c, key("2")); !errors.Is(err, context.Canceled) {
		t.Errorf("Get with an ended context returned %v", err)
	}
	c.Close()
	if _, err := client.Get[row](t.Context(), c, key("2")); !errors.Is(err, shared.ErrClosed) {
		t.Errorf("Get of a closed client returned %v", err)
	}
}

func TestKeysWithSeveralRows(t *testing.T) {
	w := start(t, es.Config{})
	asked := make(chan struct{}) // what is known before there are rows
	if err := es.RegisterRows(w.EntitySync, "report", func(ctx context.Context, _ shared.EntityKey, _ string) ([]any, error) {
		select {
		case <-asked:
			return []any{1, 2, 3}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}); err != nil {
		t.Fatal(err)
	}
	s := w.dial(client.Options{}).Subscribe(shared.EntityKey{Entity: "report", ID: "1"})
	defer s.Close()
	if u, _ := s.Latest(); u.State != client.Connecting || u.Key.ID != "1" {
		t.Errorf("at first it is %+v", u)
	} else if _, err := client.Row[int](u); !errors.Is(err, client.ErrPending) {
		t.Errorf("before anything is known Row returns %v", err)
	}
	close(asked)
	for u := range s.Updates(t.Context()) {
		rows, err := client.Rows[int](u)
		if err != nil || len(rows) != 3 || rows[2] != 3 {
			t.Errorf("Rows returned %v, %v", rows, err)
		}
		if _, err := client.Row[int](u); err == nil {
			t.Error("Row took three rows for one")
		}
		break
	}
}

// Many callers share what the server sends, and the last one ends it.
func TestCallersShareASubscription(t *testing.T) {
	w := start(t, es.Config{})
	w.table.write("1")
	c := w.dial(client.Options{})
	first := watch(t, c, "1")
	first.untilRev(1)
	received := w.line.received.Load()
	var others []*view
	for range 100 {
		others = append(others, watch(t, c, "1"))
	}
	for _, v := range others {
		v.untilRev(1)
	}
	if got := w.line.received.Load(); got != received {
		t.Errorf("%d bytes for those who came later", got-received)
	}
	w.change(t, "1")
	for _, v := range append(others, first) {
		v.untilRev(2)
	}
	if got := w.Bridge.Stats(); got.Subscriptions != 1 || got.Fetches != 2 {
		t.Errorf("%d subscriptions and %d fetches, want 1 and 2", got.Subscriptions, got.Fetches)
	}
	first.sub.Close()
	first.sub.Close()
	for _, v := range others[1:] {
		v.sub.Close()
	}
	w.change(t, "1")
	others[0].untilRev(3)
	if got := first.String(); got != "live(1) live(2)" {
		t.Errorf("after Close the first was shown %s", got)
	}

	// Who leaves and comes at once finds it as it was.
	for range 100 {
		others[0].sub.Close()
		others[0] = watch(t, c, "1")
	}
	w.change(t, "1")
	others[0].untilRev(4)
	others[0].sub.Close()
	testkit.Until(t, "the server was told", func() bool { return w.Bridge.Stats().Subscriptions == 0 })
	last := watch(t, c, "1")
	last.untilRev(4)
}

// What is refused is refused by itself, with a reason to branch on, and asked for
// again when there is an occasion.
func TestRefusals(t *testing.T) {
	w := start(t, es.Config{Web: web.Config{MaxSubscriptions: 2}})
	w.table.write("1")
	w.table.hide("hidden", true)
	c := w.dial(client.Options{})
	one := watch(t, c, "1")
	one.untilRev(1)
	for _, refused := range []struct {
		key  shared.EntityKey
		want error
		code string
	}{
		{key("hidden"), shared.ErrForbidden, "forbidden"},
		{shared.EntityKey{Entity: "nothing", ID: "1"}, shared.ErrUnknownEntity, "unknown_entity"},
		{key(""), shared.ErrBadKey, ""},
		{key("a\x00b"), shared.ErrBadKey, ""},
	} {
		_, err := client.Get[row](t.Context(), c, refused.key)
		if !errors.Is(err, refused.want) {
			t.Errorf("%v returned %v, want %v", refused.key, err, refused.want)
		}
		var e *client.Error
		if errors.As(err, &e) != (refused.code != "") || e != nil && e.Code != refused.code {
			t.Errorf("%v returned %v, want the code %q", refused.key, err, refused.code)
		}
	}

	// Rows that may not be seen any more are not kept, and return with the right.
	v := watch(t, c, "2")
	v.until("nothing there", func(u client.Update) bool { return u.Deleted })
	w.change(t, "2")
	v.untilRev(1)
	w.table.hide("2", true)
	w.tell(t, "2")
	if u := v.untilState(client.Denied); u.Rows != nil || !errors.Is(u.Err, shared.ErrForbidden) {
		t.Errorf("denied with %+v", u)
	}
	w.table.hide("2", false)
	again := watch(t, c, "2")
	again.untilRev(1)
	v.untilRev(1)

	// One too many, until another is let go.
	third := watch(t, c, "3")
	if u := third.untilState(client.Denied); !errors.Is(u.Err, shared.ErrTooManySubscriptions) {
		t.Errorf("one too many is %v", u.Err)
	}
	one.sub.Close()
	third.until("its turn", func(u client.Update) bool { return u.Deleted && u.State == client.Live })

	// A right that was gained shows after a reconnect.
	w.table.hide("2", true)
	w.tell(t, "2")
	v.untilState(client.Denied)
	w.table.hide("2", false)
	w.line.cut()
	v.untilRev(1)
}

// What the server cannot do now is asked for again.
func TestWhatIsUnavailableIsAskedForAgain(t *testing.T) {
	var sick atomic.Bool
	sick.Store(true)
	var asked atomic.Int64
	w := start(t, es.Config{Authorize: func(context.Context, shared.AccessRequest) error {
		asked.Add(1)
		if sick.Load() {
			return errors.New("the directory is down")
		}
		return nil
	}})
	w.table.write("1")
	v := watch(t, w.dial(client.Options{}), "1")
	testkit.Until(t, "it was asked twice", func() bool { return asked.Load() > 1 })
	if got := v.String(); got != "" {
		t.Errorf("shown %s", got)
	}
	sick.Store(false)
	v.untilRev(1)
}

func TestDialReturnsWhatIsWrong(t *testing.T) {
	w := start(t, es.Config{
		VerifySecret: func(_ context.Context, secret string) (time.Time, error) {
			if secret != canary {
				return time.Time{}, shared.ErrUnauthenticated
			}
			return time.Time{}, nil
		},
	})
	classic := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if conn, err := new(websocket.Upgrader).Upgrade(rw, r, nil); err == nil {
			conn.Close()
		}
	}))
	defer classic.Close()
	status := func(code int) string {
		s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(code) }))
		t.Cleanup(s.Close)
		return s.URL
	}
	absent := testkit.FreeAddr(t)
	for name, try := range map[string]struct {
		url  string
		o    client.Options
		want string // in the error
		is   error
	}{
		"no URL":           {url: "%", want: "malformed"},
		"no scheme":        {url: "example.org/ws", want: "want ws:// or wss://"},
		"no host":          {url: "ws:///ws", want: "no host"},
		"user in the URL":  {url: "ws://me:" + canary + "@example.org", want: "holds a user"},
		"two secrets":      {url: w.server.URL, o: client.Options{Secret: canary, SecretFunc: func(context.Context) (string, error) { return "", nil }}, want: "set one of them"},
		"long secret":      {url: w.server.URL, o: client.Options{Secret: strings.Repeat(canary, 1000)}, want: "more than 4096 bytes"},
		"a longer secret":  {url: w.server.URL, o: client.Options{Secret: strings.Repeat(canary, 1000), MaxSecretBytes: 5000}, want: "more than 5000 bytes"},
		"negative":         {url: w.server.URL, o: client.Options{PingInterval: -1}, want: "cannot be negative"},
		"retries":          {url: w.server.URL, o: client.Options{RetryMin: 2, RetryMax: 1}, want: "RetryMax is less"},
		"small messages":   {url: w.server.URL, o: client.Options{MaxMessageBytes: 10, RetryMax: 1}, want: "MaxMessageBytes"},
		"nobody there":     {url: "http://" + absent, want: "refused"},
		"wrong secret":     {url: w.server.URL, o: client.Options{Secret: "wrong"}, want: "the secret was refused", is: shared.ErrUnauthenticated},
		"no secret at all": {url: w.server.URL, o: client.Options{SecretFunc: func(context.Context) (string, error) { return "", errors.New("no login " + canary) }}, want: "no login"},
		"401":              {url: status(401), want: "401 Unauthorized", is: shared.ErrUnauthenticated},
		"403":              {url: status(403), want: "403 Forbidden", is: shared.ErrForbidden},
		"404":              {url: status(404), want: "404 Not Found"},
		"503":              {url: status(503), want: "503", is: client.ErrUnavailable},
		"not v2":           {url: classic.URL, want: "does not speak entity-sync.v2"},
	} {
		c, err := client.Dial(t.Context(), try.url, w.options(try.o))
		if err == nil {
			c.Close()
			t.Errorf("%s: no error", name)
			continue
		}
		if !strings.Contains(err.Error(), try.want) || try.is != nil && !errors.Is(err, try.is) {
			t.Errorf("%s: %v, want %q and %v", name, err, try.want, try.is)
		}
		if name != "no secret at all" && strings.Contains(err.Error(), canary) {
			t.Errorf("%s: the error shows a secret: %v", name, err)
		}
	}
}

// A server that takes the connection and says nothing.
func TestDialDoesNotWaitLongerThanItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := client.Dial(ctx, "ws://"+l.Addr().String(), client.Options{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Dial returned %v", err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("Dial took %v", took)
	}
}

// New needs no server yet, and Close no server any more.
func TestAServerThatComesLater(t *testing.T) {
	w := start(t, es.Config{})
	w.table.write("1")
	w.line.setDown(true)
	c, err := client.New(w.server.URL, w.options(client.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	v := watch(t, c, "1")
	v.untilState(client.Offline)
	if s := untilStatus(t, c, client.Offline); s.Err == nil || !strings.Contains(s.Err.Error(), "network is down") {
		t.Errorf("offline because of %v", s.Err)
	}
	w.line.setDown(false)
	v.untilRev(1)
	w.line.setDown(true)
	v.untilState(client.Offline)
	c.Close()
	c.Close()
	<-v.done
	if s, changed := c.Status(); s.State != client.Offline || !errors.Is(s.Err, shared.ErrClosed) {
		t.Errorf("after Close it is %v", s)
	} else {
		<-changed
	}
	if u, changed := c.Subscribe(key("2")).Latest(); u.State != client.Offline {
		t.Errorf("a key of a closed client is %v", u.State)
	} else {
		<-changed
	}
	if got := v.all(); revOf(got[len(got)-1]) != 1 {
		t.Errorf("what was known is gone: %s", v)
	}
}

func TestOwnMessages(t *testing.T) {
	heard := make(chan string, 10)
	w := start(t, es.Config{OnMessage: func(s web.Session, message []byte) {
		if err := s.Send(append([]byte("you said "), message...)); err != nil {
			t.Error(err)
		}
	}})
	c := w.dial(client.Options{OnMessage: func(message []byte) { heard <- string(message) }})
	if err := c.Send(t.Context(), []byte(`{"hello":1}`)); err != nil {
		t.Fatal(err)
	}
	if got := <-heard; got != `you said {"hello":1}` {
		t.Errorf("got %s", got)
	}
	for _, bad := range []string{``, `7`, `null`, `rubbish`, `{"action":"subscribe"}`, `{"long":"` + strings.Repeat("x", 40<<10) + `"}`} {
		if err := c.Send(t.Context(), []byte(bad)); !errors.Is(err, client.ErrBadRequest) {
			t.Errorf("sending %.30q returned %v", bad, err)
		}
	}
	w.line.setDown(true)
	untilStatus(t, c, client.Offline)
	if err := c.Send(t.Context(), []byte(`{}`)); !errors.Is(err, client.ErrOffline) {
		t.Errorf("sending without a connection returned %v", err)
	}
}

// A consumer that looks only now and then sees the newest, holds up nobody, and
// never goes back.
func TestASlowConsumer(t *testing.T) {
	const changes = 10_000
	w := start(t, es.Config{})
	c := w.dial(client.Options{})
	quick, begun := watch(t, c, "1"), make(chan struct{})
	var slow []int
	var consumer sync.WaitGroup
	held := make(chan struct{})
	sub := c.Subscribe(key("1"))
	defer sub.Close()
	consumer.Go(func() {
		for u := range sub.Updates(t.Context()) {
			if slow = append(slow, revOf(u)); len(slow) == 1 {
				close(begun)
				<-held // while all the others come
			}
			if revOf(u) == changes {
				return
			}
		}
	})
	<-begun
	for range changes {
		w.change(t, "1")
	}
	quick.untilRev(changes)
	close(held)
	consumer.Wait()
	if len(slow) != 2 || slow[1] != changes {
		t.Errorf("the slow one saw %v, want one and the last", slow)
	}
	quick.neverBack()
	t.Logf("the quick one saw %d of %d", len(quick.all()), changes)
}

// Latest serves a select, without missing anything.
func TestLatest(t *testing.T) {
	w := start(t, es.Config{})
	c := w.dial(client.Options{})
	s := c.Subscribe(key("1"))
	defer s.Close()
	w.change(t, "1")
	for late := time.After(patience); ; {
		u, changed := s.Latest()
		if revOf(u) == 3 {
			break
		}
		if rev := revOf(u); rev > 0 {
			w.change(t, "1") // before waiting
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("waited in vain; it is %+v", u)
		}
	}
}

func TestOverTLS(t *testing.T) {
	w := start(t, es.Config{})
	secure := httptest.NewUnstartedServer(w.EntitySync)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	w.table.write("1")
	if _, err := client.Dial(t.Context(), secure.URL, w.options(client.Options{})); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a server that nobody vouches for: %v", err)
	}
	o := w.options(client.Options{})
	o.Dialer.TLSClientConfig = secure.Client().Transport.(*http.Transport).TLSClientConfig
	c, err := client.Dial(t.Context(), secure.URL, o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	v := watch(t, c, "1")
	v.untilRev(1)
	w.line.cut()
	w.change(t, "1")
	v.untilRev(2)
}

func TestStatesHaveNames(t *testing.T) {
	if got := fmt.Sprint(client.Connecting, client.Live, client.Stale, client.Offline, client.Denied, client.State(9)); got != "connecting live stale offline denied State(9)" {
		t.Error(got)
	}
}

// The rows are those of the wire, byte for byte.
func TestRowsAreNotTouched(t *testing.T) {
	w := start(t, es.Config{})
	const text = `{"a": 1,"é":"<&>","big":12345678901234567890}`
	if err := es.Register(w.EntitySync, "raw", func(context.Context, shared.EntityKey, string) (json.RawMessage, error) {
		return json.RawMessage(text), nil
	}); err != nil {
		t.Fatal(err)
	}
	got, err := client.Get[json.RawMessage](t.Context(), w.dial(client.Options{}), shared.EntityKey{Entity: "raw", ID: `"<&>\u2028 é`})
	var compact, want any
	if err != nil || json.Unmarshal(got, &compact) != nil || json.Unmarshal([]byte(text), &want) != nil || fmt.Sprint(compact) != fmt.Sprint(want) || !strings.Contains(string(got), "12345678901234567890") {
		t.Errorf("got %s, %v", got, err)
	}
}
