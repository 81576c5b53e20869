package websocket

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

// TestFramesReadBack has gorilla's reader read what AppendText writes, at the
// sizes where the header changes.
func TestFramesReadBack(t *testing.T) {
	sizes := []int{0, 1, 125, 126, 127, 1<<16 - 1, 1 << 16, 1 << 20}
	payload := func(size int) []byte { return bytes.Repeat([]byte("abc"), size/3+1)[:size] }
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := new(websocket.Upgrader).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		for _, size := range sizes {
			c.NetConn().Write(AppendText(nil, payload(size)))
		}
		c.NetConn().Write(closeFrame(websocket.CloseServiceRestart, "restarting"))
	}))
	defer server.Close()
	c, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(server.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, size := range sizes {
		kind, got, err := c.ReadMessage()
		if err != nil || kind != websocket.TextMessage || !bytes.Equal(got, payload(size)) {
			t.Fatalf("a frame of %d bytes reads back as %d bytes of type %d, %v", size, len(got), kind, err)
		}
	}
	if _, _, err := c.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseServiceRestart) {
		t.Errorf("the close frame reads back as %v", err)
	}
}

// A frame that is made in place is the one that is appended.
func TestFramesMadeInPlace(t *testing.T) {
	for _, size := range []int{0, 125, 126, 1<<16 - 1, 1 << 16} {
		payload := bytes.Repeat([]byte("x"), size)
		got := TextAround(append(make([]byte, MaxHead), payload...))
		if want := AppendText(nil, payload); !bytes.Equal(got, want) {
			t.Errorf("around %d bytes the frame is % x…, want % x…", size, got[:MaxHead], want[:MaxHead])
		}
	}
}
