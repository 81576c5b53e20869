package web

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/internal/testkit"
)

// That the protocol was broken gorilla says by itself. It comes after what is being
// written, never in the midst of it, and only once, as everything that is said last.
func TestWhatGorillaSaysWaitsItsTurn(t *testing.T) {
	for name, breaking := range map[string]struct {
		frame []byte
		code  int
	}{
		"a reserved bit":     {[]byte{0xc1, 0x80, 0, 0, 0, 0}, websocket.CloseProtocolError},
		"too long a message": {[]byte{0x81, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}, websocket.CloseMessageTooBig},
		"no such length":     {[]byte{0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, websocket.CloseMessageTooBig},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := newHandler(Config{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			h.flusher.most = 0 // it does nothing by itself
			connected := make(chan *session, 1)
			h.connect = func(s *session) client {
				s.out.sendDirect(appendFrame(nil, websocket.TextMessage, []byte("a row")))
				connected <- s
				return engine{}
			}
			server := httptest.NewServer(h)
			defer server.Close()
			c, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(server.URL, "http"), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			s := <-connected
			if _, err := c.NetConn().Write(breaking.frame); err != nil {
				t.Fatal(err)
			}
			testkit.Until(t, "the session ends", func() bool {
				s.out.mu.Lock()
				defer s.out.mu.Unlock()
				return s.out.ending
			})
			a := newAttempt()
			for range 2 { // the row, and what comes last
				s.out.flush(a)
			}
			if _, message, err := c.ReadMessage(); err != nil || string(message) != "a row" {
				t.Errorf("read %q, %v", message, err)
			}
			if _, _, err := c.ReadMessage(); !websocket.IsCloseError(err, breaking.code) {
				t.Errorf("read %v, want %d", err, breaking.code)
			}
			c.Close()
			if err := h.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
