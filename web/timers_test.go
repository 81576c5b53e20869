package web

import (
	"context"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"
	"weak"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
)

// A timer that runs keeps what it is for. So a session that has ended has none
// left: not for the next ping, nor for the end of its secret; and what comes too
// late to be stopped starts none again.
func TestNoTimerOutlivesASession(t *testing.T) {
	for name, late := range map[string]func(*session){
		"in time":          func(*session) {},
		"a ping":           (*session).Ask,
		"a warning":        func(s *session) { s.warn(s.who()) },
		"another identity": func(s *session) { s.setIdentity(identity{expires: time.Now().Add(time.Hour), known: true}) },
	} {
		t.Run(name, func(t *testing.T) {
			b, err := bridge.New(bridge.Config{Bus: new(membus.Broker).NewNode(), Logger: canary.Logger(canary.Output(t))})
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close(t.Context())
			h, err := New(Config{
				Bridge: b, PingInterval: time.Hour, Logger: canary.Logger(canary.Output(t)),
				VerifySecret: func(context.Context, string) (time.Time, error) { return time.Now().Add(time.Hour), nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close(t.Context())
			left := comeAndGo(t, h, late)
			testkit.Until(t, "nothing holds it", func() bool {
				runtime.GC()
				return left.Value() == nil
			})
		})
	}
}

// comeAndGo has a client come, say two secrets and go.
func comeAndGo(t *testing.T, h *Handler, late func(*session)) weak.Pointer[session] {
	t.Helper()
	server := httptest.NewServer(h)
	defer server.Close()
	c, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(server.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{canary.Mark, canary.Mark + "renewed"} {
		if err := c.WriteMessage(websocket.TextMessage, []byte(`{"action":"secret","body":"`+secret+`"}`)); err != nil {
			t.Fatal(err)
		}
		testkit.Until(t, "it is known", func() bool {
			all := h.all()
			return len(all) == 1 && all[0].who().secret == shared.NewSecret(secret)
		})
	}
	s := h.all()[0]
	c.Close()
	testkit.Until(t, "it is gone", func() bool { return len(h.all()) == 0 })
	late(s)
	return weak.Make(s)
}
