package web_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gorilla/mux"
	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web"
)

// TestSetupMuxBridge connects clients through functions alone, on either mux,
// with and without a pass-through handler.
func TestSetupMuxBridge(t *testing.T) {
	passed := make(chan string, 1)
	pass := func(secret string, b []byte) { passed <- secret + " " + string(b) }
	for name, mount := range map[string]func(shared.ByteSecretHandlingRemoteProxy) (http.Handler, *web.Handler){
		"gorilla": func(b shared.ByteSecretHandlingRemoteProxy) (http.Handler, *web.Handler) {
			m := mux.NewRouter()
			return m, web.SetupMuxBridge(m, b, pass)
		},
		"standard library": func(b shared.ByteSecretHandlingRemoteProxy) (http.Handler, *web.Handler) {
			m := http.NewServeMux()
			return m, web.SetupMuxBridge(m, b)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := bridge.New(bridge.Config{Bus: new(membus.Broker).NewNode()})
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close(t.Context())
			if err := b.Register(items, echo, bridge.EntityOptions{}); err != nil {
				t.Fatal(err)
			}
			m, h := mount(b.ClientBuilder)
			s := &server{Server: httptest.NewServer(m), bridge: b}
			defer s.Close()
			s.URL += web.DefaultPath
			c := s.dial(t)
			c.Send(`{"action":"secret","body":"` + mark + `me"}`)
			c.Send(`{"mine":1}`)
			c.subscribe("100")
			s.untilSubscribed(t, 1)
			s.notify(t, "100")
			c.Want(`{"id":"100","for":"` + mark + `me"}`)
			c.Send(`{"action":"secret","body":"` + mark + `somebody else"}`)
			c.subscribe("101")
			s.untilSubscribed(t, 2)
			s.notify(t, "100")
			c.Want(`{"id":"100","for":"` + mark + `somebody else"}`)
			if name == "gorilla" {
				if got := <-passed; got != mark+`me {"mine":1}` {
					t.Errorf("pass-through got %q", got)
				}
			}
			c.Close()
			testkit.Until(t, "the client is gone", func() bool { return b.Stats().Clients == 0 })
			if err := h.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// A builder is the application's code: whatever it does, the node lives.
func TestBuildersThatMisbehave(t *testing.T) {
	ignore := func(shared.EntityKey) {}
	for name, builder := range map[string]shared.ByteSecretHandlingRemoteProxy{
		"panics": func(shared.ByteHandler, func() string) (sub, unSub shared.EntityKeyHandler, dc chan bool) {
			panic("no")
		},
		"returns a nil channel": func(shared.ByteHandler, func() string) (sub, unSub shared.EntityKeyHandler, dc chan bool) {
			return ignore, ignore, nil
		},
		"listens to no channel": func(shared.ByteHandler, func() string) (sub, unSub shared.EntityKeyHandler, dc chan bool) {
			return ignore, ignore, make(chan bool)
		},
		"panics when subscribed to": func(shared.ByteHandler, func() string) (sub, unSub shared.EntityKeyHandler, dc chan bool) {
			return func(shared.EntityKey) { panic("no") }, ignore, make(chan bool, 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := http.NewServeMux()
			h := web.SetupMuxBridge(m, builder)
			server := httptest.NewServer(m)
			defer server.Close()
			c, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(server.URL, "http")+web.DefaultPath, nil)
			if err != nil {
				t.Fatal(err)
			}
			c.WriteMessage(websocket.TextMessage, []byte(`{"action":"subscribe","body":{"id":"100","entity":"items"}}`))
			c.WriteMessage(websocket.CloseMessage, nil)
			c.ReadMessage()
			c.Close()
			if err := h.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
