package socket

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/wire"
)

// A dialogue with a server that says what the test has it say.
func TestADialogue(t *testing.T) {
	heard := make(chan string, 2)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		upgrader := websocket.Upgrader{Subprotocols: []string{wire.SubprotocolV2}}
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		for range 2 {
			_, message, _ := conn.ReadMessage()
			heard <- string(message)
		}
		for _, text := range []string{
			`{"action":"ack","ref":1}`, `{"action":"stale"}`, `{"action":"update","body":{"entity":"items","id":"1","version":"v","rows":[{"n":1},2]}}`, `hello`,
		} {
			if err := conn.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
				t.Error(err)
			}
		}
		_ = conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(wire.CloseRevoked, ""))
	}))
	defer server.Close()
	key := shared.EntityKey{Entity: "items", ID: "1"}
	c := DialV2(t, server.URL)
	c.Secret("me")
	c.Subscribe(key)
	for _, want := range []string{`{"action":"secret","body":"me"}`, `{"action":"subscribe","ref":1,"body":[{"entity":"items","id":"1"}]}`} {
		if got := <-heard; got != want {
			t.Errorf("the server heard %s, want %s", got, want)
		}
	}
	c.WantReply("ack 1")
	if got, want := Line(c.UntilKey(wire.ActionUpdate, key)), `update items 1 {"n":1} 2`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	c.Want("hello")
	c.WantClose(wire.CloseRevoked)
}
