package web_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/socket"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web"
	"github.com/entity-sync/entity-sync/web/wire"
)

// status tries to connect and returns what the server answered.
func (s *server) status(t *testing.T, h http.Header) *http.Response {
	t.Helper()
	c, resp, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(s.URL, "http"), h)
	if err == nil {
		c.Close()
	}
	if resp == nil {
		t.Fatalf("no answer: %v", err)
	}
	return resp
}

// Who connects is decided before anything else is, and after the origin.
func TestAuthenticate(t *testing.T) {
	asked := 0
	s := start(t, web.Config{
		Snapshot: true,
		Authenticate: func(r *http.Request) (string, time.Time, error) {
			asked++
			cookie, err := r.Cookie("session")
			if err != nil {
				return "", time.Time{}, shared.ErrUnauthenticated
			}
			switch cookie.Value {
			case "banned":
				return "", time.Time{}, fmt.Errorf("banned: %w", shared.ErrForbidden)
			case "down":
				return "", time.Time{}, errors.New("no database: " + mark)
			case "panic":
				panic(mark)
			case "expired":
				return mark + "me", time.Now().Add(-time.Second), nil
			}
			return mark + "secret of " + cookie.Value, time.Time{}, nil
		},
	}, echo)
	for session, want := range map[string]int{"": 401, "banned": 403, "down": 503, "panic": 503, "expired": 401, "anna": 101} {
		h := http.Header{}
		if session != "" {
			h.Set("Cookie", "session="+session)
		}
		if got := s.status(t, h).StatusCode; got != want {
			t.Errorf("session %q is answered with %d, want %d", session, got, want)
		}
	}
	before := asked
	if got := s.status(t, http.Header{"Origin": {"https://evil.example.com"}, "Cookie": {"session=anna"}}).StatusCode; got != 403 || asked != before {
		t.Errorf("a foreign page is answered with %d, and Authenticate was asked %d times", got, asked-before)
	}
	if resp, err := http.Get(s.URL); err != nil || resp.StatusCode != 400 || asked != before {
		t.Errorf("a plain request is answered with %v, and Authenticate was asked %d times", resp, asked-before)
	} else {
		resp.Body.Close()
	}

	c := s.dialWith(t, http.Header{"Cookie": {"session=anna"}, "Sec-WebSocket-Protocol": {wire.SubprotocolV2}})
	c.Send(`{"action":"subscribe","body":{"entity":"items","id":"1"}}`)
	c.WantReply("ack")
	c.WantReply(`update items 1 {"id":"1","for":"` + mark + `secret of anna"}`)
	c.Send(`{"action":"secret","body":"` + mark + `secret of ben"}`)
	c.WantReply("error forbidden") // it cannot say that it is somebody else
	s.notify(t, "1")
	c.WantReply(`update items 1 {"id":"1","for":"` + mark + `secret of anna"}`)
	if strings.Contains(s.log.String(), mark) {
		t.Errorf("the log quotes the application's error:\n%s", s.log)
	}
}

// A secret that expires is warned of, may be renewed in place, and otherwise ends
// the session: nobody goes on as somebody that they are not any more.
func TestExpiry(t *testing.T) {
	t.Parallel()
	life := 3 * time.Second
	s := start(t, web.Config{
		VerifySecret: func(_ context.Context, secret string) (time.Time, error) {
			switch {
			case secret == mark+"forever":
				return time.Time{}, nil
			case strings.HasPrefix(secret, mark+"token"):
				return time.Now().Add(life), nil
			case secret == mark+"old":
				return time.Now().Add(-life), nil
			}
			return time.Time{}, shared.ErrUnauthenticated
		},
	}, echo)
	c, classic, lasting := s.dialV2(t), s.dial(t), s.dialV2(t)
	c.Send(`{"action":"secret","body":"` + mark + `token 1"}`)
	c.WantReply("ack")
	if f := c.WantReply("expiring"); f.Seconds != 1 {
		t.Errorf("it says %d seconds, want 1", f.Seconds)
	}
	for _, bad := range []string{"wrong", "old"} {
		c.Send(`{"action":"secret","body":%q}`, mark+bad)
		c.WantReply("error unauthenticated")
	}
	c.Send(`{"action":"secret","body":"` + mark + `token 2"}`) // in time
	c.WantReply("ack")
	c.Send(`{"action":"subscribe","body":{"entity":"items","id":"1"}}`)
	c.WantReply("ack")
	c.WantReply(`update items 1 {"id":"1","for":"` + mark + `token 2"}`)
	lasting.Send(`{"action":"secret","body":"` + mark + `token 1"}`)
	lasting.WantReply("ack")
	lasting.Send(`{"action":"secret","body":"` + mark + `forever"}`)
	lasting.WantReply("ack")

	classic.Send(`{"action":"secret","body":"` + mark + `token 1"}`)
	c.WantReply("expiring")
	c.WantClose(wire.CloseExpired)
	classic.WantClose(wire.CloseExpired)
	lasting.Send(`{"action":"subscribe","body":{"entity":"items","id":"1"}}`)
	lasting.WantReply("ack") // still here
}

// Another secret is said in time, and what it may watch takes so long to be asked
// that the one before it expires: nothing more is sent by that one, and nobody is
// sent away.
func TestASecretRenewedInTimeIsNotTooLate(t *testing.T) {
	t.Parallel()
	asked, release := make(chan bool), make(chan bool)
	life := map[string]time.Duration{mark + "1": 3 * time.Second, mark + "2": time.Hour}
	s := start(t, web.Config{
		VerifySecret: func(_ context.Context, secret string) (time.Time, error) { return time.Now().Add(life[secret]), nil },
		Authorize: func(_ context.Context, a shared.AccessRequest) error {
			if a.Secret == shared.NewSecret(mark+"2") {
				asked <- true
				<-release
			}
			return nil
		},
	}, echo)
	c := s.dialV2(t)
	c.Send(`{"action":"secret","body":"` + mark + `1"}`)
	c.WantReply("ack")
	said := time.Now()
	c.Send(`{"action":"subscribe","body":{"entity":"items","id":"1"}}`)
	c.WantReply("ack")
	c.WantReply(`update items 1 {"id":"1","for":"` + mark + `1"}`)
	c.Send(`{"action":"secret","ref":2,"body":"` + mark + `2"}`)
	<-asked
	time.Sleep(time.Until(said.Add(life[mark+"1"] + 100*time.Millisecond))) // it has expired
	s.notify(t, "1")
	time.Sleep(50 * time.Millisecond) // in which a row of the expired secret would come
	release <- true
	c.WantReply("expiring")
	c.WantReply("ack 2")
	c.WantReply(`update items 1 {"id":"1","for":"` + mark + `2"}`)
}

func TestRequireSecret(t *testing.T) {
	t.Parallel()
	s := start(t, web.Config{RequireSecret: true, SecretTimeout: 3 * time.Second}, echo)
	silent, c, classic := s.dialV2(t), s.dialV2(t), s.dial(t)
	c.Send(`{"action":"subscribe","ref":1,"body":{"entity":"items","id":"1"}}`)
	c.WantReply("error 1 items 1 unauthenticated")
	c.WantReply("ack 1")
	c.Send(`{"action":"secret","body":""}`) // the empty secret is one
	c.WantReply("ack")
	c.Send(`{"action":"subscribe","body":{"entity":"items","id":"1"}}`)
	c.WantReply("ack")
	c.WantReply(`update items 1 {"id":"1","for":""}`)
	silent.WantClose(wire.CloseUnauthenticated)
	classic.WantClose(wire.CloseUnauthenticated)
	c.Send(`{"action":"unsubscribe","body":{"entity":"items","id":"1"}}`)
	c.WantReply("ack") // still here
}

// A token with many claims is longer than most.
func TestHowLongASecretMayBeIsAnOption(t *testing.T) {
	t.Parallel()
	const most = 10_000
	long, longer := strings.Repeat("x", most), strings.Repeat("x", most+1)
	s := start(t, web.Config{MaxSecretBytes: most}, echo)
	v2, classic := s.dialV2(t), s.dial(t)
	v2.Send("%s", `{"action":"secret","ref":1,"body":"`+long+`"}`)
	v2.WantReply("ack 1")
	v2.Send("%s", `{"action":"secret","ref":2,"body":"`+longer+`"}`)
	v2.WantReply("error 2 bad_message")
	v2.Send(`{"action":"subscribe","ref":3,"body":{"entity":"items","id":"1"}}`)
	v2.WantReply("ack 3")
	v2.WantReply(`update items 1 {"id":"1","for":"` + long + `"}`)
	classic.Send("%s", `{"action":"secret","body":"`+longer+`"}`) // is ignored
	classic.Send("%s", `{"action":"secret","body":"`+long+`"}`)
	classic.Send(`{"action":"subscribe","body":{"entity":"items","id":"1","snapshot":true}}`)
	classic.Want(`{"id":"1","for":"` + long + `"}`)

	withCookie := start(t, web.Config{MaxSecretBytes: most, Authenticate: func(r *http.Request) (string, time.Time, error) {
		return r.Header.Get("Authorization"), time.Time{}, nil
	}}, echo)
	for secret, status := range map[string]int{long: http.StatusSwitchingProtocols, longer: http.StatusInternalServerError} {
		if got := withCookie.status(t, http.Header{"Authorization": {secret}}).StatusCode; got != status {
			t.Errorf("a secret of %d bytes from Authenticate: status %d, want %d", len(secret), got, status)
		}
	}
}

// A cookie says who it is, and who has none says so in a message: RequireSecret
// holds for them.
func TestRequireSecretOfWhoIsNobodyAtTheUpgrade(t *testing.T) {
	t.Parallel()
	s := start(t, web.Config{
		RequireSecret: true, SecretTimeout: 3 * time.Second,
		Authenticate: func(*http.Request) (string, time.Time, error) { return "", time.Time{}, nil },
		VerifySecret: func(context.Context, string) (time.Time, error) { return time.Time{}, nil },
	}, echo)
	silent, c := s.dialV2(t), s.dialV2(t)
	c.Send(`{"action":"subscribe","ref":1,"body":{"entity":"items","id":"1"}}`)
	c.WantReply("error 1 items 1 unauthenticated")
	c.WantReply("ack 1")
	c.Send(`{"action":"secret","body":"` + mark + `"}`)
	c.WantReply("ack")
	silent.WantClose(wire.CloseUnauthenticated)
	c.Send(`{"action":"unsubscribe","body":{"entity":"items","id":"1"}}`)
	c.WantReply("ack") // still here
}

func TestAuthorize(t *testing.T) {
	var mu sync.Mutex
	var attempts []shared.AccessRequest
	s := start(t, web.Config{
		RemoteAddr: func(*http.Request) string { return "198.51.100.7" },
		Authorize: func(ctx context.Context, a shared.AccessRequest) error {
			mu.Lock()
			defer mu.Unlock()
			attempts = append(attempts, a)
			switch {
			case a.Key.ID == "down":
				return errors.New(mark)
			case a.Key.ID == "panic":
				panic(mark)
			case a.Key.ID == "admins only" && a.Secret != shared.NewSecret(mark+"admin"):
				return shared.ErrForbidden
			}
			return nil
		},
	}, echo)
	c := s.dialV2(t)
	c.Send(`{"action":"secret","body":"` + mark + `admin"}`)
	c.WantReply("ack")
	c.Send(`{"action":"subscribe","body":[{"entity":"items","id":"admins only"},{"entity":"items","id":"down"},{"entity":"items","id":"1"}]}`)
	c.WantReply("error items down unavailable")
	c.WantReply("ack")
	for range 2 { // in any order
		if f := c.Reply(); f.Action != "update" {
			t.Errorf("got %v, want the two updates", socket.Line(f))
		}
	}
	mu.Lock()
	if want := (shared.AccessRequest{Action: "subscribe", Key: shared.EntityKey{Entity: "items", ID: "down"}, Secret: shared.NewSecret(mark + "admin"), Remote: "198.51.100.7"}); attempts[1] != want {
		t.Errorf("the application was asked about %+v, want %+v", attempts[1], want)
	}
	mu.Unlock()
	c.Send(`{"action":"subscribe","ref":5,"body":{"entity":"items","id":"panic"}}`)
	c.WantReply("error 5 items panic unavailable")
	c.WantReply("ack 5")

	// What the new secret may not have ends, before anything is fetched with it.
	c.Send(`{"action":"secret","body":"` + mark + `guest"}`)
	c.WantReply("unsubscribed items admins only forbidden")
	c.WantReply("ack")
	c.WantReply(`update items 1 {"id":"1","for":"` + mark + `guest"}`)
	s.untilSubscribed(t, 1)
	if strings.Contains(s.log.String(), mark) {
		t.Errorf("the log quotes the application's error:\n%s", s.log)
	}
}

// Two keys are refused to a client that reads nothing, and then it says another secret: its
// subscriptions go on, so that the application is asked about them as about all others.
func TestWhatWasRefusedAndNotToldIsAuthorizedAnew(t *testing.T) {
	large := []byte(`"` + strings.Repeat("x", 1<<20-2) + `"`)
	const larges = 16 // MiB: more than the sockets hold
	s := start(t, web.Config{
		WriteTimeout: patience, PingInterval: patience, // so that the client is not given up meanwhile
		Authorize: func(_ context.Context, a shared.AccessRequest) error {
			if a.Key.ID == "hidden" && a.Secret == shared.NewSecret(mark+"new") {
				return shared.ErrForbidden
			}
			return nil
		},
	}, func(_ context.Context, k shared.EntityKey, secret string) ([][]byte, error) {
		switch {
		case strings.HasPrefix(k.ID, "large"):
			return [][]byte{large}, nil
		case secret != mark+"new":
			return nil, shared.ErrForbidden
		}
		return [][]byte{[]byte(`"` + secret + `"`)}, nil
	})
	c := s.dialV2(t)
	var keys []string
	for i := range larges {
		keys = append(keys, fmt.Sprintf(`{"entity":"items","id":"large %d"}`, i))
	}
	c.Send(`{"action":"subscribe","body":[%s]}`, strings.Join(keys, ","))
	c.WantReply("ack")
	testkit.Until(t, "the large rows are handed out", func() bool {
		st := s.bridge.Stats()
		return st.Fetches == larges && st.FetchesRunning == 0
	})
	c.Send(`{"action":"subscribe","body":[{"entity":"items","id":"hidden"},{"entity":"items","id":"seen"}]}`)
	testkit.Until(t, "both keys are refused", func() bool { return s.bridge.Stats().Fetches == larges+2 && s.bridge.Stats().Subscriptions == larges })
	c.Send(`{"action":"secret","body":"` + mark + `new"}`)
	s.untilSubscribed(t, larges+1)

	var lines []string
	for len(lines) < 4 {
		if f := c.Reply(); !strings.HasPrefix(f.Key.ID, "large") {
			lines = append(lines, socket.Line(f))
		}
	}
	if want := []string{"ack", "unsubscribed items hidden forbidden", "ack", `update items seen "` + mark + `new"`}; !slices.Equal(lines, want) {
		t.Errorf("it was told %q, want %q", lines, want)
	}
}

func TestSessionLimits(t *testing.T) {
	s := start(t, web.Config{
		MaxSessions: 3, MaxSessionsPerAddr: 2,
		RemoteAddr: func(r *http.Request) string { return r.Header.Get("X-Forwarded-For") },
	}, echo)
	from := func(addr string) http.Header { return http.Header{"X-Forwarded-For": {addr}} }
	first := s.dialWith(t, from("a"))
	s.dialWith(t, from("a"))
	if resp := s.status(t, from("a")); resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
		t.Errorf("a third from one address is answered with %v", resp)
	}
	s.dialWith(t, from("b"))
	if resp := s.status(t, from("c")); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("a fourth is answered with %v", resp)
	}
	first.Close()
	testkit.Until(t, "its place is free", func() bool { return s.status(t, from("a")).StatusCode == http.StatusSwitchingProtocols })
	if resp, err := http.Get(s.URL); err != nil || resp.StatusCode != 400 { // takes no place, or gives it back
		t.Errorf("a plain request is answered with %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}
}

// A client that is too fast is slowed down, told so once, and loses nothing.
func TestRates(t *testing.T) {
	t.Parallel()
	s := start(t, web.Config{MessageRate: 20}, echo)
	c := s.dialV2(t)
	const n = 260 // of which 200 at once
	begin := time.Now()
	for i := range n {
		c.Send(`{"action":"unsubscribe","ref":%d,"body":{"entity":"items","id":"1"}}`, i)
	}
	told := 0
	for i := 0; i < n; {
		switch f := c.Reply(); socket.Line(f) {
		case fmt.Sprint("ack ", i):
			i++
		case "error rate_limited":
			told++
		default:
			t.Fatalf("got %v, want the answers in order", socket.Line(f))
		}
	}
	if told != 1 {
		t.Errorf("told %d times to be slower, want once", told)
	}
	if took := time.Since(begin); took < 2500*time.Millisecond {
		t.Errorf("60 messages more than a burst were taken in %v, want three seconds", took)
	}

	s = start(t, web.Config{SubscribeRate: 20, MaxSubscriptions: -1}, echo)
	c = s.dialV2(t)
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf(`{"entity":"items","id":"%d","snapshot":false}`, i)
	}
	begin = time.Now()
	c.Send(`{"action":"subscribe","body":[%s]}`, strings.Join(keys, ","))
	c.WantReply("error rate_limited")
	c.WantReply("ack")
	if took := time.Since(begin); took < 2500*time.Millisecond {
		t.Errorf("60 subscriptions more than a burst were taken in %v, want three seconds", took)
	}
	if got := s.bridge.Stats().Subscriptions; got != n {
		t.Errorf("%d subscriptions, want %d", got, n)
	}
}

// A client that lets more wait than a node holds for one is told to come back.
func TestTooMuchWaiting(t *testing.T) {
	big := bytes.Repeat([]byte("x"), 400<<10)
	const few, many = 8, 20 // those of the second are fetched at once
	var begun atomic.Int64
	allBegun := make(chan struct{})
	s := start(t, web.Config{MaxQueuedBytes: 4 << 20}, func(ctx context.Context, _ shared.EntityKey, _ string) ([][]byte, error) {
		switch n := begun.Add(1); {
		case n == few+many:
			close(allBegun)
		case n > few: // or the client is sent away before the last of them begins
			select {
			case <-allBegun:
			case <-ctx.Done():
			}
		}
		return [][]byte{big}, nil
	})
	reader, c := s.dialV2(t), s.slowly(t)
	keys := make([]string, many)
	for i := range keys {
		keys[i] = fmt.Sprintf(`{"entity":"items","id":"%d"}`, i)
	}
	reader.Send(`{"action":"subscribe","body":[%s]}`, strings.Join(keys[:few], ","))
	reader.WantReply("ack")
	for range few {
		if f := reader.Reply(); f.Action != "update" {
			t.Fatalf("got %v", socket.Line(f))
		}
	}
	c.Send(`{"action":"subscribe","body":[%s]}`, strings.Join(keys, ","))
	testkit.Until(t, "all is fetched", func() bool {
		st := s.bridge.Stats()
		return st.Fetches == few+many && st.FetchesRunning == 0
	})
	for {
		_, _, err := c.ReadMessage()
		if err == nil {
			continue
		}
		if !websocket.IsCloseError(err, wire.CloseSlow) {
			t.Errorf("it ends with %v, want close code %d", err, wire.CloseSlow)
		}
		break
	}
}

// One that was sent away for it is given a moment to go, and is not heard.
func TestWhoHasTooMuchWaitingMustGo(t *testing.T) {
	var heard atomic.Int64
	s := start(t, web.Config{
		MaxQueuedBytes: 10, PingInterval: time.Hour,
		OnMessage: func(web.Session, []byte) { heard.Add(1) },
	}, echo)
	c := s.dialV2(t)
	c.SetCloseHandler(func(int, string) error { return nil }) // says nothing to it
	c.Send(`{"action":"subscribe","body":{"entity":"items","id":"1"}}`)
	c.WantClose(wire.CloseSlow)
	for range 5 {
		c.WriteMessage(websocket.TextMessage, []byte(`{}`)) // unless it is cut off already
	}
	testkit.Until(t, "it is cut off", func() bool { return s.bridge.Stats().Clients == 0 })
	if heard.Load() != 0 {
		t.Errorf("%d messages were heard after it was told to go", heard.Load())
	}
}

func TestHeadersAreNoPlaceForASecret(t *testing.T) {
	s := start(t, web.Config{Snapshot: true}, echo)
	u, err := url.Parse("ws" + strings.TrimPrefix(s.URL, "http"))
	if err != nil {
		t.Fatal(err)
	}
	u.RawQuery = "secret=" + mark
	c := &conn{socket.DialWith(t, websocket.DefaultDialer, u.String(), http.Header{"Secret": {mark}})}
	defer c.Close()
	c.subscribe("1")
	c.Want(`{"id":"1","for":""}`)
}
