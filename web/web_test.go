package web_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/socket"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testkit.ServesHTTP()) }

const (
	items    shared.EntityType = "items"
	patience                   = 30 * time.Second
)

// mark is in all secrets, so that one which gets out is found.
const mark = canary.Mark

// server is one node with an in-memory bus, behind a real listener.
type server struct {
	*httptest.Server
	broker  *membus.Broker
	bridge  *bridge.Bridge
	handler *web.Handler
	log     *testkit.Buffer
}

func start(t testing.TB, c web.Config, fetch shared.Fetcher) *server {
	t.Helper()
	return startOn(t, &membus.Broker{}, c, fetch)
}

func startOn(t testing.TB, broker *membus.Broker, c web.Config, fetch shared.Fetcher) *server {
	t.Helper()
	s := startWith(t, broker.NewNode(), c, fetch)
	s.broker = broker
	return s
}

func startWith(t testing.TB, bus bus.Bus, c web.Config, fetch shared.Fetcher) *server {
	t.Helper()
	s := &server{log: &testkit.Buffer{}}
	logger := canary.Logger(s.log, canary.Output(t))
	var err error
	if s.bridge, err = bridge.New(bridge.Config{Bus: canary.Tap(canary.Output(t), bus), PublishTimeout: patience, Logger: logger}); err != nil {
		t.Fatal(err)
	}
	if err := s.bridge.Register(items, fetch, bridge.EntityOptions{}); err != nil {
		t.Fatal(err)
	}
	c.Bridge, c.Logger = s.bridge, cmp.Or(c.Logger, logger)
	if s.handler, err = web.New(c); err != nil {
		t.Fatal(err)
	}
	s.Server = httptest.NewServer(s.handler)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.handler.Close(ctx); err != nil {
			t.Errorf("closing the handler: %v", err)
		}
		if err := s.bridge.Close(ctx); err != nil {
			t.Errorf("closing the bridge: %v", err)
		}
		s.Server.Close()
	})
	return s
}

// echo is a fetch handler that answers with what it was asked for.
func echo(_ context.Context, k shared.EntityKey, secret string) ([][]byte, error) {
	return [][]byte{fmt.Appendf(nil, `{"id":%q,"for":%q}`, k.ID, secret)}, nil
}

func (s *server) notify(t testing.TB, id string) {
	t.Helper()
	if err := s.bridge.Notify(context.Background(), shared.EntityKey{Entity: items, ID: id}); err != nil {
		t.Fatal(err)
	}
}

func (s *server) untilSubscribed(t testing.TB, n int) {
	t.Helper()
	testkit.Until(t, fmt.Sprint(n, " subscriptions"), func() bool { return s.bridge.Stats().Subscriptions == n })
}

// conn is a client.
type conn struct{ *socket.Conn }

func (s *server) dial(t testing.TB) *conn {
	t.Helper()
	return &conn{socket.Dial(t, s.URL)}
}

func (s *server) dialWith(t testing.TB, h http.Header) *conn {
	t.Helper()
	return &conn{socket.DialWith(t, websocket.DefaultDialer, s.URL, h)}
}

// dialV2 connects a client that speaks v2.
func (s *server) dialV2(t testing.TB) *conn {
	t.Helper()
	return &conn{socket.DialV2(t, s.URL)}
}

func (c *conn) subscribe(id string) {
	c.Send(`{"action":"subscribe","body":{"id":%q,"entity":"items"}}`, id)
}

func TestClassicWire(t *testing.T) {
	s := start(t, web.Config{}, func(ctx context.Context, k shared.EntityKey, secret string) ([][]byte, error) {
		if k.ID == "report" {
			return [][]byte{[]byte(`{"report":1}`), []byte(`{"author":2}`), []byte("\"<raw> text\"")}, nil
		}
		return echo(ctx, k, secret)
	})
	c := s.dial(t)
	c.Send(`{"action":"secret","body":"` + mark + `s3cret"}`)
	c.subscribe("100")
	c.subscribe("report")
	s.untilSubscribed(t, 2)

	s.notify(t, "100")
	c.Want(`{"id":"100","for":"` + mark + `s3cret"}`)
	s.notify(t, "report") // several rows are several frames, in order, raw
	c.Want(`{"report":1}`)
	c.Want(`{"author":2}`)
	c.Want("\"<raw> text\"")

	c.Send(`{"action":"unsubscribe","body":{"id":"100","entity":"items"}}`)
	s.untilSubscribed(t, 1)
	s.notify(t, "100")
	s.notify(t, "report")
	c.Want(`{"report":1}`) // and nothing of 100 before it
}

func TestSnapshot(t *testing.T) {
	for _, configured := range []bool{false, true} {
		s := start(t, web.Config{Snapshot: configured}, echo)
		c := s.dial(t)
		if configured {
			c.subscribe("100")
		} else {
			c.subscribe("not asked for")
			c.Send(`{"action":"subscribe","body":{"id":"100","entity":"items","snapshot":true}}`)
		}
		c.Want(`{"id":"100","for":""}`)
	}
}

func TestPassThroughGetsWhatHasNoAction(t *testing.T) {
	type call struct{ secret, message string }
	calls := make(chan call, 10)
	s := start(t, web.Config{PassThrough: func(secret string, b []byte) {
		calls <- call{secret, string(b)}
		if string(b) == `{"panic":true}` {
			panic("a handler's bug")
		}
	}}, echo)
	c := s.dial(t)
	c.Send(`{"hello":"world"}`)
	c.Send(`{"action":"secret","body":"` + mark + `me"}`)
	c.Send(`{"panic":true}`)
	c.Send(`{"action":"","body":{}}`)
	c.Send(` [1,2]`)
	for _, want := range []call{{"", `{"hello":"world"}`}, {mark + "me", `{"panic":true}`}, {mark + "me", `{"action":"","body":{}}`}, {mark + "me", ` [1,2]`}} {
		select {
		case got := <-calls:
			if got != want {
				t.Errorf("pass-through got %q, want %q", got, want)
			}
		case <-time.After(patience):
			t.Fatalf("pass-through never got %q", want)
		}
	}
}

// Whatever a client sends as text, it is told to the log, and the session goes on.
func TestBadMessagesAreIgnored(t *testing.T) {
	s := start(t, web.Config{}, echo)
	c := s.dial(t)
	for _, bad := range []string{
		"", "{", "nonsense", `{"action":"subscribe"}`, `{"action":"subscribe","body":[]}`, `{"action":5}`,
		`{"action":"subscribe","body":{"id":100,"entity":"items"}}`, `{"action":"subscribe","body":{"id":"","entity":"items"}}`,
		`{"action":"subscribe","body":{"id":"1","entity":"never-heard-of"}}`, `{"action":"subscribe","body":{"id":"1"}}`,
		`{"action":"subscribe","body":{"id":"a\u0000b","entity":"items"}}`,
		`{"action":"explode","body":{}}`, `{"action":"secret","body":7}`, `{"action":"secret","body":null}`, `{"action":"secret"}`,
		`{"action":"secret","body":"` + strings.Repeat("x", 4097) + `"}`,
		`{"action":"unsubscribe","body":{"id":"1","entity":"items"}}`, strings.Repeat("[", 20_000), `{"action":"subscribe"}{"action":"subscribe"}`,
	} {
		c.Send("%s", bad)
	}
	c.subscribe("100")
	s.untilSubscribed(t, 1)
	s.notify(t, "100")
	c.Want(`{"id":"100","for":""}`)
	if n, rest := loud(s.log.String(), "refusing a client's message"); n != 10 || rest != 8 {
		t.Errorf("one client wrote %d lines to the log and %d at the debug level, want 10 and what is left of 18", n, rest)
	}
	if !strings.Contains(s.log.String(), "code=unknown_entity") {
		t.Error("the log does not say that an entity type is unknown")
	}
	if strings.Contains(s.log.String(), "nonsense") || strings.Contains(s.log.String(), "never-heard-of") {
		t.Error("the log shows what the client sent")
	}
}

func TestAMessageThatCannotBeTakenEndsTheSessionWithItsCode(t *testing.T) {
	for name, tt := range map[string]struct {
		kind    int
		message []byte
		code    int
	}{
		"binary":    {websocket.BinaryMessage, []byte("x"), websocket.CloseUnsupportedData},
		"not UTF-8": {websocket.TextMessage, []byte{'"', 0xff, '"'}, websocket.CloseInvalidFramePayloadData},
		"too large": {websocket.TextMessage, bytes.Repeat([]byte(" "), 33<<10), websocket.CloseMessageTooBig},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, web.Config{}, echo)
			bystander, c := s.dial(t), s.dial(t)
			bystander.subscribe("100")
			s.untilSubscribed(t, 1)
			if err := c.WriteMessage(tt.kind, tt.message); err != nil {
				t.Fatal(err)
			}
			c.WantClose(tt.code)
			s.notify(t, "100")
			bystander.Want(`{"id":"100","for":""}`)
			testkit.Until(t, "the session is gone", func() bool { return s.bridge.Stats().Clients == 1 })
		})
	}
}

func TestOrigin(t *testing.T) {
	s := start(t, web.Config{AllowedOrigins: []string{"https://app.example.com"}}, echo)
	host := strings.TrimPrefix(s.URL, "http://")
	for origin, want := range map[string]int{
		"":                                  http.StatusSwitchingProtocols, // not a browser
		"http://" + host:                    http.StatusSwitchingProtocols,
		"https://app.example.com":           http.StatusSwitchingProtocols,
		"https://APP.example.com":           http.StatusSwitchingProtocols,
		"http://app.example.com":            http.StatusForbidden,
		"https://app.example.com:8443":      http.StatusForbidden,
		"https://evil-app.example.com":      http.StatusForbidden,
		"https://app.example.com.evil.com":  http.StatusForbidden,
		"https://аpp.example.com":           http.StatusForbidden, // a Cyrillic а
		"null":                              http.StatusForbidden,
		"::":                                http.StatusForbidden,
		"http://" + host + ".evil.com":      http.StatusForbidden,
		"http://other.example.com?" + host:  http.StatusForbidden,
		"http://user@evil.com#" + "http://": http.StatusForbidden,
	} {
		header := http.Header{}
		if origin != "" {
			header.Set("Origin", origin)
		}
		c, r, err := websocket.DefaultDialer.Dial("ws://"+host, header)
		if r == nil {
			t.Fatalf("origin %q: %v", origin, err)
		}
		if r.StatusCode != want {
			t.Errorf("origin %q: status %d, want %d", origin, r.StatusCode, want)
		}
		if c != nil {
			c.Close()
		}
	}
	log := s.log.String()
	if said, _ := loud(log, "refusing a page of another origin; see AllowedOrigins"); said != 4 { // of ten the 1st, 2nd, 4th and 8th
		t.Errorf("want a few lines that say why pages are refused:\n%s", log)
	}
}

func TestPlainHTTPIsRefusedPolitely(t *testing.T) {
	s := start(t, web.Config{}, echo)
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodHead} {
		r, err := http.NewRequest(method, s.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode/100 != 4 {
			t.Errorf("%s: status %d, want 4xx", method, answer.StatusCode)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestConfigErrorsNameTheField(t *testing.T) {
	b, err := bridge.New(bridge.Config{Bus: new(membus.Broker).NewNode()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close(t.Context())
	for want, c := range map[string]web.Config{
		"Bridge":          {},
		"MaxMessageBytes": {Bridge: b, MaxMessageBytes: -1},
		"AllowedOrigins":  {Bridge: b, AllowedOrigins: []string{"example.com"}},
	} {
		if _, err := web.New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New(%+v) returned %v, want an error that names %s", c, err, want)
		}
	}
}

// A client that never reads holds one update a key, however much changes, and
// ends with the newest rows when it reads at last. Nobody waits for it.
func TestASlowClientEndsRightAndHoldsUpNobody(t *testing.T) {
	var mu sync.Mutex
	rev := 0
	pad := strings.Repeat("x", 32<<10)
	// The client reads nothing for as long as the machine takes for all the changes.
	s := start(t, web.Config{WriteTimeout: time.Hour, PongWait: time.Hour}, func(context.Context, shared.EntityKey, string) ([][]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		return [][]byte{fmt.Appendf(nil, `%d %s`, rev, pad)}, nil
	})
	slow, quick := s.dial(t), s.dial(t)
	slow.subscribe("100")
	quick.subscribe("100")
	s.untilSubscribed(t, 2)
	const last = 2000 // 64 MB in all: far more than the sockets hold
	for range last {
		mu.Lock()
		rev++
		mu.Unlock()
		s.notify(t, "100")
		quick.Read()
	}
	frames, got, before := 0, 0, 0
	for got < last {
		fmt.Sscan(slow.Read(), &got)
		if frames++; got < before {
			t.Fatalf("went back from %d to %d", before, got)
		}
		before = got
	}
	if frames > last/2 {
		t.Errorf("the slow client was sent %d of %d states; want old ones replaced while it slept", frames, last)
	}
}

func TestAClientThatStopsReadingIsGivenUp(t *testing.T) {
	pad := bytes.Repeat([]byte("x"), 1<<20)
	s := start(t, web.Config{WriteTimeout: 100 * time.Millisecond}, func(context.Context, shared.EntityKey, string) ([][]byte, error) {
		return [][]byte{pad}, nil
	})
	c := s.dial(t)
	c.subscribe("100")
	s.untilSubscribed(t, 1)
	testkit.Until(t, "it is given up", func() bool {
		s.notify(t, "100")
		return s.bridge.Stats().Clients == 0
	})
}

// A client that answers no ping, and sends its own, is there.
func TestAClientsPingsShowThatItIsThere(t *testing.T) {
	t.Parallel()
	const wait = 2 * time.Second // for it to be heard of
	s := start(t, web.Config{PingInterval: wait / 2, PongWait: wait / 2}, echo)
	c := s.dialV2(t)
	c.SetPingHandler(func(string) error { return nil })
	for begin := time.Now(); time.Since(begin) < 2*wait; time.Sleep(wait / 100) {
		if err := c.WriteControl(websocket.PingMessage, nil, time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
	}
	c.Send(`{"action":"unsubscribe","ref":1,"body":{"entity":"items","id":"1"}}`)
	c.WantReply("ack 1")
}

func TestASilentClientIsGivenUpAndAnAnsweringOneIsNot(t *testing.T) {
	t.Parallel()
	s := start(t, web.Config{PingInterval: 500 * time.Millisecond, PongWait: 2 * time.Second}, echo)
	silent, lively := s.dial(t), s.dial(t)
	pings := make(chan struct{}, 1000)
	lively.SetPingHandler(func(data string) error {
		pings <- struct{}{}
		return lively.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(patience))
	})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		lively.ReadMessage() // answers pings until the test closes it
	}()
	_ = silent // reads nothing, so it answers no ping
	testkit.Until(t, "both are there", func() bool { return s.bridge.Stats().Clients == 2 })
	testkit.Until(t, "the silent client is given up", func() bool { return s.bridge.Stats().Clients == 1 })
	for range 6 { // for longer than a silent one is waited for
		select {
		case <-pings:
		case <-ended:
			t.Fatal("the answering client was given up")
		}
	}
	if got := s.bridge.Stats().Clients; got != 1 {
		t.Errorf("%d clients, want the answering one", got)
	}
	lively.Close()
	<-ended
}

func TestPingsAreAnswered(t *testing.T) {
	s := start(t, web.Config{}, echo)
	c := s.dial(t)
	pong := make(chan string, 1)
	c.SetPongHandler(func(data string) error { pong <- data; return nil })
	if err := c.WriteControl(websocket.PingMessage, []byte("anybody?"), time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	c.Send(`{"action":"subscribe","body":{"id":"100","entity":"items","snapshot":true}}`)
	c.Read()
	if got := <-pong; got != "anybody?" {
		t.Errorf("ping answered with %q", got)
	}
}

func TestAClientsCloseIsAnswered(t *testing.T) {
	s := start(t, web.Config{}, echo)
	for _, code := range []int{websocket.CloseNormalClosure, websocket.CloseGoingAway, 4321} {
		c := s.dial(t)
		if err := c.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(code, "bye")); err != nil {
			t.Fatal(err)
		}
		c.WantClose(code)
	}
	c := s.dial(t)
	if err := c.WriteMessage(websocket.CloseMessage, nil); err != nil {
		t.Fatal(err)
	}
	c.WantClose(websocket.CloseNoStatusReceived)
	testkit.Until(t, "all sessions are gone", func() bool { return s.bridge.Stats().Clients == 0 })
}

func TestCloseTellsEveryClient(t *testing.T) {
	s := start(t, web.Config{}, echo)
	const clients = 50
	var wg sync.WaitGroup
	for range clients {
		c := s.dial(t)
		wg.Go(func() { c.WantClose(websocket.CloseServiceRestart) })
	}
	testkit.Until(t, "all are there", func() bool { return s.bridge.Stats().Clients == clients })
	if err := s.handler.Close(t.Context()); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if _, r, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(s.URL, "http"), nil); err == nil || r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("connecting to a closed handler: %v, want 503", err)
	}
}

func TestCloseCutsOffWhoDoesNotGo(t *testing.T) {
	s := start(t, web.Config{}, echo)
	for range 5 {
		s.dial(t) // never reads, so it never learns that it should go
	}
	testkit.Until(t, "all are there", func() bool { return s.bridge.Stats().Clients == 5 })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if err := s.handler.Close(ctx); err == nil {
		t.Error("Close returned nil though clients had to be cut off")
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("Close took %v", took)
	}
	if got := s.bridge.Stats().Clients; got != 0 {
		t.Errorf("%d clients are left", got)
	}
}

func TestClientsThatComeAndGoLeaveNothing(t *testing.T) {
	s := start(t, web.Config{}, echo)
	for i := range 300 {
		c := s.dial(t)
		c.subscribe(fmt.Sprint(i % 7))
		if i%3 == 0 {
			c.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""))
		}
		s.notify(t, fmt.Sprint(i%7))
		c.Close()
	}
	testkit.Until(t, "nothing is left", func() bool {
		st := s.bridge.Stats()
		return st.Clients == 0 && st.Subscriptions == 0 && st.Views == 0
	})
}

func containsCanary(s string) bool { return strings.Contains(s, mark) }

// muffled is a bus that does not hear while it is told so.
type muffled struct {
	bus.Bus
	mu        sync.Mutex
	deaf      bool
	listeners []bus.Listener
}

type muffledListener struct {
	bus.Listener
	bus *muffled
}

func (m *muffled) set(deaf bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.deaf = deaf
}

func (m *muffled) all() []bus.Listener {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]bus.Listener(nil), m.listeners...)
}

func (m *muffled) Subscribe(entity shared.EntityType, l bus.Listener) error {
	m.mu.Lock()
	m.listeners = append(m.listeners, l)
	m.mu.Unlock()
	return m.Bus.Subscribe(entity, muffledListener{l, m})
}

func (l muffledListener) Message(b []byte) {
	l.bus.mu.Lock()
	deaf := l.bus.deaf
	l.bus.mu.Unlock()
	if !deaf {
		l.Listener.Message(b)
	}
}
