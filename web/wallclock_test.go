package web

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/wire"
)

// wallClock is one that can be set. That of the machine would be everybody's.
type wallClock struct{ ahead atomic.Int64 }

func (c *wallClock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *wallClock) set(by time.Duration) { c.ahead.Add(int64(by)) }

// withLife connects a client to a node of its own, with a secret that expires so much
// later, by the clock.
func withLife(t *testing.T, clock *wallClock, ping, life time.Duration) (c *websocket.Conn, expires time.Time) {
	t.Helper()
	c, expires, _ = withLifeAndBridge(t, clock, Config{PingInterval: ping}, life)
	return c, expires
}

// withLifeAndBridge is withLife with more in the configuration, and an entity type.
func withLifeAndBridge(t *testing.T, clock *wallClock, config Config, life time.Duration) (c *websocket.Conn, expires time.Time, b *bridge.Bridge) {
	t.Helper()
	logger := canary.Logger(canary.Output(t))
	b, err := bridge.New(bridge.Config{Bus: new(membus.Broker).NewNode(), Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Register("items", func(context.Context, shared.EntityKey, string) ([][]byte, error) {
		return [][]byte{[]byte(`{"row":true}`)}, nil
	}, bridge.EntityOptions{}); err != nil {
		t.Fatal(err)
	}
	expires = clock.now().Add(life) // with a reading of the other clock, as time.Now has one
	config.Bridge, config.Logger = b, logger
	config.Authenticate = func(*http.Request) (string, time.Time, error) { return canary.Mark, expires, nil }
	h, err := newBy(config, clock.now)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(h)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := h.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := b.Close(ctx); err != nil {
			t.Error(err)
		}
		server.Close()
	})
	c, _, err = websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(server.URL, "http"), http.Header{"Sec-WebSocket-Protocol": {wire.SubprotocolV2}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, expires.Round(0), b
}

// next reads a frame.
func next(t *testing.T, c *websocket.Conn) (r wire.Reply, err error) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	_, message, err := c.ReadMessage()
	r, _ = wire.ReadReply(message)
	return r, err
}

// subscribe reads until there is a row.
func subscribe(t *testing.T, c *websocket.Conn) {
	t.Helper()
	if err := c.WriteMessage(websocket.TextMessage, []byte(`{"action":"subscribe","body":{"entity":"items","id":"100"}}`)); err != nil {
		t.Fatal(err)
	}
	for {
		if f, err := next(t, c); err != nil {
			t.Fatal(err)
		} else if f.Action == "update" {
			return
		}
	}
}

// warned reads the warning that a secret expires, and how long before it comes.
func warned(t *testing.T, c *websocket.Conn) (seconds int) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	_, message, err := c.ReadMessage()
	r, _ := wire.ReadReply(message)
	if err != nil || r.Action != wire.ActionExpiring {
		t.Fatalf("got %s, %v", message, err)
	}
	return r.Seconds
}

func wantExpired(t *testing.T, c *websocket.Conn, clock *wallClock, expires time.Time) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	_, _, err := c.ReadMessage()
	for err == nil { // warnings: the clock may be set before the session looks at it first
		_, _, err = c.ReadMessage()
	}
	if !websocket.IsCloseError(err, wire.CloseExpired) {
		t.Errorf("got %v, want close code %d", err, wire.CloseExpired)
	}
	if now := clock.now().Round(0); now.Before(expires) {
		t.Errorf("the client was sent away %v before its secret expired", expires.Sub(now))
	}
}

// The clock is set back in a secret's last moments: it expires when the clock says so.
func TestASecretExpiresThoughTheClockWasSetBack(t *testing.T) {
	var clock wallClock
	c, expires := withLife(t, &clock, time.Hour, time.Second)
	warned(t, c)
	clock.set(-500 * time.Millisecond)
	wantExpired(t, c, &clock, expires)
}

// The clock is set forward: the next ping finds that the secret has expired.
func TestASecretExpiresAsTheClockIsSetForward(t *testing.T) {
	var clock wallClock
	c, expires := withLife(t, &clock, 50*time.Millisecond, time.Hour)
	clock.set(2 * time.Hour)
	wantExpired(t, c, &clock, expires)
}

// The clock is set back before the warning: that comes when the end is near.
func TestAWarningIsNotTooEarlyWhereTheClockWasSetBack(t *testing.T) {
	var clock wallClock
	c, expires := withLife(t, &clock, 100*time.Millisecond, expiryWarning+200*time.Millisecond)
	clock.set(-time.Second)
	if s := warned(t, c); s > int(expiryWarning.Seconds()) {
		t.Errorf("the client is warned %d seconds before the end", s)
	}
	clock.set(time.Minute)
	wantExpired(t, c, &clock, expires)
}

// The clock is set forward, and a row comes long before the next ping: it is not sent.
func TestNothingIsSentToASecretThatTheClockHasOvertaken(t *testing.T) {
	var clock wallClock
	c, _, b := withLifeAndBridge(t, &clock, Config{PingInterval: time.Hour}, time.Hour)
	subscribe(t, c)
	clock.set(2 * time.Hour)
	if err := b.Notify(t.Context(), shared.EntityKey{Entity: "items", ID: "100"}); err != nil {
		t.Fatal(err)
	}
	f, err := next(t, c)
	if !websocket.IsCloseError(err, wire.CloseExpired) {
		t.Errorf("got %+v, %v, want close code %d", f, err, wire.CloseExpired)
	}
}

// The same, while the application is asked about the next secret: what waits is taken
// back, and rows of that secret come.
func TestASecretThatTheClockHasOvertakenIsRenewed(t *testing.T) {
	var clock wallClock
	asked, goOn := make(chan bool), make(chan bool)
	c, _, b := withLifeAndBridge(t, &clock, Config{
		PingInterval: time.Hour,
		VerifySecret: func(context.Context, string) (time.Time, error) { return time.Time{}, nil },
		Authorize: func(_ context.Context, a shared.AccessRequest) error {
			if a.Secret != shared.NewSecret(canary.Mark) {
				asked <- true
				<-goOn
			}
			return nil
		},
	}, time.Hour)
	subscribe(t, c)
	if err := c.WriteMessage(websocket.TextMessage, []byte(`{"action":"secret","ref":1,"body":"`+canary.Mark+`next"}`)); err != nil {
		t.Fatal(err)
	}
	<-asked
	clock.set(2 * time.Hour)
	if err := b.Notify(t.Context(), shared.EntityKey{Entity: "items", ID: "100"}); err != nil {
		t.Fatal(err)
	}
	testkit.Until(t, "it was fetched", func() bool { s := b.Stats(); return s.Fetches >= 2 && s.FetchesRunning+s.FetchesQueued == 0 })
	goOn <- true
	var acked bool
	for {
		f, err := next(t, c)
		if err != nil {
			t.Fatal(err)
		}
		if f.Action == "update" && !acked {
			t.Error("a row came before the secret was accepted")
		}
		if acked = acked || f.Action == "ack"; f.Action == "update" {
			return
		}
	}
}
