package web_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/internal/testkit/socket"
	"github.com/entity-sync/entity-sync/web"
	"github.com/entity-sync/entity-sync/web/wire"
)

// Subprotocols may come in several headers, which are one list.
func TestSubprotocolsInSeveralHeaders(t *testing.T) {
	s := start(t, web.Config{}, echo)
	for _, offers := range [][]string{{"chat", wire.SubprotocolV2}, {"chat, x", "y", wire.SubprotocolV2 + ", z"}, {wire.SubprotocolV2, "chat"}} {
		c := s.dialWith(t, http.Header{"Sec-WebSocket-Protocol": offers})
		if got := c.Subprotocol(); got != wire.SubprotocolV2 {
			t.Errorf("of %q the server speaks %q", offers, got)
		}
	}
	if got := s.dialWith(t, http.Header{"Sec-WebSocket-Protocol": {"chat", "x"}}).Subprotocol(); got != "" {
		t.Errorf("the server speaks %q", got)
	}
}

// What middleware has set goes out with the upgrade as with any answer, but for what
// the upgrade itself says and what is about a body.
func TestHeadersOfMiddlewareGoOutWithTheUpgrade(t *testing.T) {
	s := start(t, web.Config{}, echo)
	inner := s.Server.Config.Handler
	s.Server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Add("Set-Cookie", "session=new; HttpOnly")
		h.Add("Set-Cookie", "seen=1")
		h.Set("X-Request-Id", "7\r\nX-Evil: 1")
		h.Set("Connection", "close")
		h.Set("Upgrade", "h2c")
		h.Set("Content-Type", "text/html")
		h.Set("Content-Length", "5")
		h.Set("Transfer-Encoding", "chunked")
		h.Set("Sec-WebSocket-Protocol", "chat")
		h.Set("Sec-WebSocket-Extensions", "permessage-deflate")
		h.Set("Sec-WebSocket-Accept", "no")
		inner.ServeHTTP(w, r)
	})
	c, answer, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(s.URL, "http"), http.Header{"Sec-WebSocket-Protocol": {wire.SubprotocolV2}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got := answer.Header
	if cookies := strings.Join(got.Values("Set-Cookie"), " | "); cookies != "session=new; HttpOnly | seen=1" {
		t.Errorf("the cookies are %s", cookies)
	}
	for name, want := range map[string]string{
		"X-Request-Id": "7  X-Evil: 1", "X-Evil": "", "Connection": "Upgrade", "Upgrade": "websocket", "Content-Type": "", "Content-Length": "",
		"Transfer-Encoding": "", "Sec-WebSocket-Protocol": wire.SubprotocolV2, "Sec-WebSocket-Extensions": "",
	} {
		if value := strings.Join(got.Values(name), " | "); value != want {
			t.Errorf("%s is %q, want %q", name, value, want)
		}
	}
	client := socket.On(t, c)
	client.Send(`{"action":"subscribe","body":{"entity":"items","id":"1"}}`)
	client.WantReply("ack")
}
