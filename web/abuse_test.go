package web_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
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

// listOf is so many keys of items, from 0 on.
func listOf(n int, more string) string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf(`{"entity":"items","id":"%d"%s}`, i, more)
	}
	return strings.Join(keys, ",")
}

// slowly connects a client on a line that carries little at once.
func (s *server) slowly(t *testing.T) *conn {
	t.Helper()
	d := websocket.Dialer{Subprotocols: []string{wire.SubprotocolV2}, NetDial: func(network, addr string) (net.Conn, error) {
		c, err := net.Dial(network, addr)
		if err == nil {
			err = c.(*net.TCPConn).SetReadBuffer(16 << 10)
		}
		return c, err
	}}
	return &conn{socket.DialWith(t, &d, s.URL, nil)}
}

// Whatever a client asks for again and again, it is taken at its pace.
func TestEverythingHasAPace(t *testing.T) {
	var fetches atomic.Int64
	count := func(ctx context.Context, k shared.EntityKey, secret string) ([][]byte, error) {
		fetches.Add(1)
		return echo(ctx, k, secret)
	}
	t.Run("another secret with many keys", func(t *testing.T) {
		s := start(t, web.Config{SubscribeRate: 50}, count) // 500 at once
		c := s.dialV2(t)
		begin := time.Now() // before anything is taken
		c.Send(`{"action":"subscribe","body":[%s]}`, listOf(100, ""))
		for i := range 15 {
			c.Send(`{"action":"secret","body":"%s%d"}`, mark, i)
		}
		time.Sleep(time.Second)
		got := fetches.Load() // before the clock is read, which may be later
		if took := time.Since(begin); float64(got) > 700+50*took.Seconds() {
			t.Errorf("%d fetches in %v, want some 500 and 50 a second", got, took)
		}
	})
	t.Run("the same secret costs nothing", func(t *testing.T) {
		s := start(t, web.Config{SubscribeRate: 10}, count)
		c := s.dialV2(t)
		c.Send(`{"action":"subscribe","body":[%s]}`, listOf(50, `,"snapshot":false`))
		c.WantReply("ack")
		for range 20 {
			c.Send(`{"action":"secret","body":""}`)
			c.WantReply("ack")
		}
	})
	for name, body := range map[string]string{
		"a list of bad keys":         `{"action":"subscribe","body":[{}` + strings.Repeat(",{}", 299) + `]}`,
		"a list that is left":        `{"action":"unsubscribe","body":[{}` + strings.Repeat(",{}", 299) + `]}`,
		"a list of unknown entities": `{"action":"subscribe","body":[{"entity":"x","id":"1"}` + strings.Repeat(`,{"entity":"x","id":"1"}`, 299) + `]}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, web.Config{SubscribeRate: 25}, echo) // 250 at once
			c := s.dialV2(t)
			begin := time.Now()
			c.Send("%s", body)
			for f := c.Reply(); f.Action != "ack"; f = c.Reply() {
			}
			if took := time.Since(begin); took < 1500*time.Millisecond {
				t.Errorf("50 keys more than a burst were looked at in %v, want two seconds", took)
			}
		})
	}
	for name, kind := range map[string]int{"pings": websocket.PingMessage, "pongs": websocket.PongMessage} {
		t.Run(name, func(t *testing.T) {
			s := start(t, web.Config{MessageRate: 25}, echo)
			c := s.dialV2(t)
			begin := time.Now()
			for range 300 {
				if err := c.WriteControl(kind, nil, time.Now().Add(patience)); err != nil {
					t.Fatal(err)
				}
			}
			c.Send(`{"action":"unsubscribe","ref":1,"body":{"entity":"items","id":"1"}}`)
			for f := c.Reply(); f.Action != "ack"; f = c.Reply() {
			}
			if took := time.Since(begin); took < 1500*time.Millisecond {
				t.Errorf("50 more than a burst were taken in %v, want two seconds", took)
			}
		})
	}
}

// Pieces of a message without anything in them are no message, and end with it.
func TestAMessageThatNeverEnds(t *testing.T) {
	s := start(t, web.Config{PongWait: 300 * time.Millisecond}, echo)
	c := s.dialV2(t)
	raw := c.NetConn()
	if _, err := raw.Write([]byte{0x01, 0x80, 0, 0, 0, 0}); err != nil { // a text message, to be continued
		t.Fatal(err)
	}
	piece := append([]byte{0x00, 0x80, 0, 0, 0, 0}, []byte{0x8a, 0x80, 0, 0, 0, 0}...) // nothing, and a pong
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if _, err := raw.Write(piece); err != nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal("it is listened to for ever")
		}
	}
}

// A length that does not fit into a number is too large like any other, and said to
// be so once.
func TestALengthThatOverflowsIsTooLarge(t *testing.T) {
	s := start(t, web.Config{}, echo)
	for name, head := range map[string][]byte{
		"2^64-1":               {0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0},
		"2^63-1 after a piece": {0x01, 0x81, 0, 0, 0, 0, 'x', 0x80, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0},
		"2^31":                 {0x81, 0xff, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0},
	} {
		c := s.dial(t).NetConn()
		if _, err := c.Write(head); err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(patience))
		got, err := io.ReadAll(c)
		if want := "\x88\x02\x03\xf1"; string(got) != want || err != nil { // close 1009
			t.Errorf("%s: it says %q, %v, want %q", name, got, err, want)
		}
	}
}

// Close does not wait for a client that is being slowed down.
func TestCloseDoesNotWaitForAPace(t *testing.T) {
	s := start(t, web.Config{SubscribeRate: 1, MaxSubscriptions: -1}, echo)
	c := s.dialV2(t)
	c.Send(`{"action":"subscribe","body":[%s]}`, listOf(300, `,"snapshot":false`)) // five minutes
	c.WantReply("error rate_limited")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.handler.Close(ctx); err != nil {
		t.Error(err)
	}
}

// A client that was told to go is not served any more.
func TestWhoWasToldToGoIsNotHeard(t *testing.T) {
	var heard atomic.Int64
	s := start(t, web.Config{
		OnMessage:    func(web.Session, []byte) { heard.Add(1) },
		VerifySecret: func(context.Context, string) (time.Time, error) { return time.Now().Add(100 * time.Millisecond), nil },
	}, echo)
	c := s.dial(t)
	c.SetCloseHandler(func(int, string) error { return nil }) // says nothing to it
	// Before the secret: that may have expired by the time of a message after it.
	c.Send(`{}`)
	c.Send(`{"action":"secret","body":"` + mark + `token"}`)
	_, _, err := c.ReadMessage()
	if !websocket.IsCloseError(err, wire.CloseExpired) {
		t.Fatalf("it ends with %v", err)
	}
	if heard.Load() != 1 {
		t.Errorf("heard %d messages before, want 1", heard.Load())
	}
	for range 10 {
		if c.WriteMessage(websocket.TextMessage, []byte("{}")) != nil {
			break // it is gone already
		}
	}
	testkit.Until(t, "it is gone", func() bool { return s.bridge.Stats().Clients == 0 })
	if heard.Load() != 1 {
		t.Errorf("%d messages were heard after it was told to go", heard.Load()-1)
	}
}

// On the way out nobody is told that all is well.
func TestNobodyIsFreshOnTheWayOut(t *testing.T) {
	s := start(t, web.Config{}, echo)
	c := s.dialV2(t)
	c.Send(`{"action":"subscribe","body":{"entity":"items","id":"1","snapshot":false}}`)
	c.WantReply("ack")
	s.broker.SetDown(true)
	c.WantReply("stale")
	if err := c.WriteMessage(websocket.BinaryMessage, []byte("x")); err != nil {
		t.Fatal(err)
	}
	c.WantClose(websocket.CloseUnsupportedData)
}

// What waits for a slow client is written before it is sent away, though that
// takes longer than a client has to answer a close frame.
func TestASlowClientIsSentAwayWithAllThatWaits(t *testing.T) {
	big := `"` + strings.Repeat("x", 900<<10) + `"`
	const enough = 5 * time.Minute // for all of it, on a machine that is busy
	s := start(t, web.Config{WriteTimeout: enough}, func(context.Context, shared.EntityKey, string) ([][]byte, error) { return [][]byte{[]byte(big)}, nil })
	c := s.slowly(t)
	const n = 12
	c.Send(`{"action":"subscribe","body":[%s]}`, listOf(n, ""))
	c.WantReply("ack")
	testkit.Until(t, "all is fetched", func() bool { st := s.bridge.Stats(); return st.Fetches == n && st.FetchesRunning == 0 })
	closed := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), enough)
		defer cancel()
		closed <- s.handler.Close(ctx)
	}()
	got := 0
	for {
		time.Sleep(150 * time.Millisecond)
		_, _, err := c.ReadMessage()
		if err != nil {
			if !websocket.IsCloseError(err, websocket.CloseServiceRestart) {
				t.Errorf("it ends with %v", err)
			}
			break
		}
		got++
	}
	if err := <-closed; err != nil || got != n {
		t.Errorf("of %d updates %d were written, and Close returned %v", n, got, err)
	}
}

// One that reads a little now and then does not keep its place for ever.
func TestWhoMustGoDoesNotTrickleOn(t *testing.T) {
	big := `"` + strings.Repeat("x", 1000<<10) + `"`
	s := start(t, web.Config{
		WriteTimeout: time.Second, MaxSessions: 1,
		VerifySecret: func(context.Context, string) (time.Time, error) { return time.Now().Add(time.Second), nil },
	}, func(context.Context, shared.EntityKey, string) ([][]byte, error) { return [][]byte{[]byte(big)}, nil })
	c := s.slowly(t)
	if got := s.status(t, nil).StatusCode; got != http.StatusServiceUnavailable {
		t.Errorf("a second is answered with %d: the first has not got the only place", got)
	}
	c.Send(`{"action":"secret","body":"` + mark + `token"}`)
	c.Send(`{"action":"subscribe","body":[%s]}`, listOf(4, ""))
	trickling := make(chan bool)
	go func() {
		defer close(trickling)
		piece := make([]byte, 1<<10)
		for {
			if _, err := c.NetConn().Read(piece); err != nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	testkit.Until(t, "its place is free", func() bool { return s.status(t, nil).StatusCode == http.StatusSwitchingProtocols })
	c.Close()
	<-trickling
}

// Those who are being authenticated take a place each.
func TestAuthenticatingTakesAPlace(t *testing.T) {
	entered, release := make(chan bool, 10), make(chan bool)
	s := start(t, web.Config{MaxSessions: 2, Authenticate: func(*http.Request) (string, time.Time, error) {
		entered <- true
		<-release
		return "", time.Time{}, shared.ErrUnauthenticated
	}}, echo)
	answers := make(chan int, 2)
	for range 2 {
		go func() {
			_, resp, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(s.URL, "http"), nil)
			if resp == nil {
				answers <- 0
				t.Error(err)
				return
			}
			answers <- resp.StatusCode
		}()
	}
	<-entered
	<-entered
	if got := s.status(t, nil).StatusCode; got != http.StatusServiceUnavailable {
		t.Errorf("a third is answered with %d", got)
	}
	close(release)
	for range 2 {
		if got := <-answers; got != http.StatusUnauthorized {
			t.Errorf("answered with %d, want 401", got)
		}
	}
	if got := s.status(t, nil).StatusCode; got != http.StatusUnauthorized { // their places are free
		t.Errorf("after that one is answered with %d, want 401", got)
	}
}

// Clients do not decide how much is logged, and a panic says where it was.
func TestTheLogIsBoundedForAllClientsTogether(t *testing.T) {
	s := start(t, web.Config{
		RemoteAddr:   func(r *http.Request) string { return r.Header.Get("X-Forwarded-For") },
		Authenticate: func(r *http.Request) (string, time.Time, error) { panic(errors.New(mark)) },
	}, echo)
	for range 200 {
		s.status(t, http.Header{"X-Forwarded-For": {strings.Repeat("canary", 1000)}})
	}
	log := s.log.String()
	if n, _ := loud(log, ""); n < 10 || n > 120 {
		t.Errorf("%d lines, want some 50 besides those of the debug level", n)
	}
	if !strings.Contains(log, "abuse_test.go") || strings.Contains(log, mark) || len(log) > 1<<20 {
		t.Errorf("the log, of %d bytes, does not say where it panicked, or what with:\n%.2000s", len(log), log)
	}
}

// A large message over a slow line, which takes longer than a client has to answer
// a ping, is taken as long as it gets on.
func TestALargeMessageMayTakeItsTime(t *testing.T) {
	t.Parallel()
	heard := make(chan int, 1)
	s := start(t, web.Config{
		PongWait: 2 * time.Second, MaxMessageBytes: 1 << 20,
		OnMessage: func(_ web.Session, m []byte) { heard <- len(m) },
	}, echo)
	c := s.dial(t)
	w, err := c.NextWriter(websocket.TextMessage)
	if err != nil {
		t.Fatal(err)
	}
	const parts, part = 30, 8 << 10
	for i := range parts {
		text := strings.Repeat("x", part)
		if i == 0 {
			text = `"` + text[1:]
		}
		if i == parts-1 {
			text = text[1:] + `"`
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case n := <-heard:
		if n != parts*part {
			t.Errorf("%d bytes came, want %d", n, parts*part)
		}
	case <-time.After(patience):
		t.Error("the message was not taken")
	}
}
