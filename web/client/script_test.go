package client_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/client"
	"github.com/entity-sync/entity-sync/web/wire"
)

// script is the server's end of a connection, played by a test: for orders of
// frames that a real server has seldom, and for what no real one says.
type script struct {
	t    *testing.T
	conn *websocket.Conn
}

// dialScript connects a client to the test.
func dialScript(t *testing.T, o client.Options) (*client.Client, script) {
	t.Helper()
	conns := make(chan *websocket.Conn, 1)
	upgrader := websocket.Upgrader{Subprotocols: []string{wire.SubprotocolV2}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if conn, err := upgrader.Upgrade(w, r, nil); err == nil {
			conns <- conn
		}
	}))
	t.Cleanup(server.Close)
	o.RetryMin, o.RetryMax = time.Hour, time.Hour
	o.Logger = slog.New(slog.DiscardHandler)
	c, err := client.New(server.URL, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	conn := <-conns
	t.Cleanup(func() { conn.Close() })
	return c, script{t, conn}
}

func (s script) hears(want string) {
	s.t.Helper()
	s.conn.SetReadDeadline(time.Now().Add(patience))
	_, got, err := s.conn.ReadMessage()
	if err != nil || string(got) != want {
		s.t.Fatalf("heard %s, %v, want %s", got, err, want)
	}
}

func (s script) says(frames ...string) {
	s.t.Helper()
	for _, f := range frames {
		if err := s.conn.WriteMessage(websocket.TextMessage, []byte(f)); err != nil {
			s.t.Fatal(err)
		}
	}
}

const (
	subscribe   = `{"action":"subscribe","ref":%d,"body":[{"entity":"items","id":"%s"%s}]}`
	unsubscribe = `{"action":"unsubscribe","ref":%d,"body":[{"entity":"items","id":"%s"}]}`
)

func ack(ref int) string { return fmt.Sprintf(`{"action":"ack","ref":%d}`, ref) }

func update(id string, rev int) string {
	return fmt.Sprintf(`{"action":"update","body":{"entity":"items","id":%q,"version":"version %d","rows":[{"id":%q,"rev":%d}]}}`, id, rev, id, rev)
}

// What the server says of a subscription that has ended is not taken for something
// about the next one of the same key.
func TestFramesOfAnEarlierSubscription(t *testing.T) {
	heard := make(chan struct{}, 1)
	c, server := dialScript(t, client.Options{OnMessage: func([]byte) { heard <- struct{}{} }})
	first := watch(t, c, "1")
	server.hears(fmt.Sprintf(subscribe, 1, "1", ""))
	server.says(ack(1), update("1", 1))
	first.untilRev(1)
	first.sub.Close()
	server.hears(fmt.Sprintf(unsubscribe, 2, "1"))
	second := watch(t, c, "1")
	server.hears(fmt.Sprintf(subscribe, 3, "1", ""))
	for _, late := range []string{ // the first had ended by itself before it was given up
		update("1", 2), `{"action":"unsubscribed","body":{"entity":"items","id":"1","code":"forbidden","message":""}}`, ack(2),
	} {
		server.says(late, "the application's")
		<-heard
		if u, _ := second.sub.Latest(); u.State != client.Connecting {
			t.Errorf("after %s it is %s", late, u.State)
		}
	}
	server.says(ack(3), update("1", 3))
	second.untilRev(3)
	if got := second.String(); got != "live(3)" {
		t.Errorf("shown %s", got)
	}
}

// A refusal that names its key by the index in the request is of that key alone, and
// of none where that key was let go.
func TestARefusalByIndex(t *testing.T) {
	c, server := dialScript(t, client.Options{})
	one := watch(t, c, "1")
	server.hears(fmt.Sprintf(subscribe, 1, "1", ""))
	server.says(`{"action":"error","ref":1,"body":{"index":1,"code":"bad_key","message":""}}`, ack(1), update("1", 1))
	one.untilRev(1)
	if got := one.String(); got != "live(1)" {
		t.Errorf("the index of another key: shown %s", got)
	}
	two := watch(t, c, "2")
	server.hears(fmt.Sprintf(subscribe, 2, "2", ""))
	server.says(`{"action":"error","ref":2,"body":{"index":0,"code":"bad_key","message":""}}`, ack(2))
	two.untilState(client.Denied)
	if got := one.String(); got != "live(1)" {
		t.Errorf("a refusal of another request: shown %s", got)
	}
}

// A key that nobody watches any more, and that the server ends just then, can be
// asked for again.
func TestARefusalWhileNobodyWatches(t *testing.T) {
	c, server := dialScript(t, client.Options{})
	v := watch(t, c, "1")
	server.hears(fmt.Sprintf(subscribe, 1, "1", ""))
	server.says(ack(1), update("1", 1))
	v.untilRev(1)
	server.says(`{"action":"unsubscribed","body":{"entity":"items","id":"1","code":"forbidden","message":""}}`)
	v.untilState(client.Denied)
	v.sub.Close() // of which the server need not be told
	v = watch(t, c, "1")
	server.hears(fmt.Sprintf(subscribe, 2, "1", ""))
	server.says(ack(2), update("1", 2))
	v.untilRev(2)
	if got := v.String(); got != "live(2)" {
		t.Errorf("shown %s", got)
	}
}

// A server that says what makes no sense is not believed, and does no harm.
func TestWhatMakesNoSense(t *testing.T) {
	var own []string
	heard := make(chan struct{})
	c, server := dialScript(t, client.Options{OnMessage: func(m []byte) {
		if own = append(own, string(m)); string(m) == "end" {
			close(heard)
		}
	}})
	v := watch(t, c, "1")
	server.hears(fmt.Sprintf(subscribe, 1, "1", ""))
	other := watch(t, c, "2")
	server.hears(fmt.Sprintf(subscribe, 2, "2", ""))
	server.says(
		update("1", 1), // before its ack
		ack(1), ack(1), ack(77), `{"action":"ack"}`, `{"action":"ack","ref":"1"}`,
		update("3", 1), // which nobody asked for
		`{"action":"current","body":{"entity":"items","id":"1","version":"another"}}`,
		`{"action":"current","body":{"entity":"items","id":"1"}}`,
		`{"action":"error","body":{"code":"rate_limited","message":"slowly"}}`,
		`{"action":"error","ref":77,"body":{"code":"forbidden","message":""}}`,
		`{"action":"expiring","body":{"seconds":1}}`,
		`{"action":"update","body":{"entity":"items","id":"1","rows":[]}}`, `rubbish`, `[]`,
		`{"action":"error","ref":2,"body":{"code":"bad_message","message":"all of it"}}`, "end",
	)
	if u := other.untilState(client.Denied); !errors.Is(u.Err, client.ErrBadRequest) {
		t.Errorf("a request that was refused: %v", u.Err)
	}
	<-heard
	if got := strings.Join(own, " "); got != `{"action":"update","body":{"entity":"items","id":"1","rows":[]}} rubbish [] end` {
		t.Errorf("the application got %s", got)
	}
	if got := v.String(); got != "" {
		t.Errorf("shown %s", got)
	}
	server.says(update("1", 2), `{"action":"stale"}`, `{"action":"stale"}`, `{"action":"current","body":{"entity":"items","id":"1","version":"version 2"}}`)
	v.untilState(client.Stale)
	server.says(`{"action":"fresh"}`)
	v.untilRev(2)

	server.conn.WriteMessage(websocket.BinaryMessage, []byte("binary"))
	server.says(update("1", 3))
	v.untilRev(3)
	server.conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(4599, "go away"))
	var closed *websocket.CloseError
	if s := untilStatus(t, c, client.Denied); !errors.As(s.Err, &closed) || closed.Code != 4599 || !strings.Contains(s.Err.Error(), "4599: go away") {
		t.Errorf("denied with %v", s.Err)
	}
}

// The secret comes first, and nothing is asked for before the server has taken it.
func TestTheSecretComesFirst(t *testing.T) {
	c, server := dialScript(t, client.Options{Secret: canary})
	v := watch(t, c, "1")
	server.hears(`{"action":"secret","ref":1,"body":"` + canary + `"}`)
	if err := c.Send(t.Context(), []byte(`{}`)); !errors.Is(err, client.ErrOffline) {
		t.Errorf("before that Send returned %v", err)
	}
	server.says(`{"action":"stale"}`, ack(1))
	server.hears(fmt.Sprintf(subscribe, 2, "1", ""))
	server.says(ack(2), update("1", 1))
	if u := v.untilState(client.Stale); revOf(u) != 1 {
		t.Errorf("shown %s", v)
	}
	if err := c.Send(t.Context(), []byte(`{}`)); err != nil {
		t.Error(err)
	}
	server.hears(`{}`)

	c, server = dialScript(t, client.Options{Secret: canary})
	server.hears(`{"action":"secret","ref":1,"body":"` + canary + `"}`)
	server.says(`{"action":"error","ref":1,"body":{"code":"forbidden","message":"not here"}}`)
	if s := untilStatus(t, c, client.Denied); !errors.Is(s.Err, shared.ErrForbidden) {
		t.Errorf("denied with %v", s.Err)
	}
	server.conn.SetReadDeadline(time.Now().Add(patience))
	if _, m, err := server.conn.ReadMessage(); err == nil {
		t.Errorf("then the client says %s", m)
	}
}

// A server that takes the connection and never the secret is given up in time.
func TestASecretWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	c, _ := dialScript(t, client.Options{Secret: canary, ConnectTimeout: 3 * time.Second})
	if s := untilStatus(t, c, client.Offline); s.Err == nil || !strings.Contains(s.Err.Error(), "timeout") {
		t.Errorf("offline because of %v", s.Err)
	}
}
