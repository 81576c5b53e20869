package web

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/bridge"
)

// TestFramesReadBack has gorilla's reader read what appendFrame writes, at the
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
			c.NetConn().Write(appendFrame(nil, websocket.TextMessage, payload(size)))
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

func TestFramingAnUpdateAllocatesOnce(t *testing.T) {
	u := &bridge.Update{Rows: [][]byte{[]byte("one"), []byte("two")}}
	if n := testing.AllocsPerRun(100, func() { onClassic.Encode(u) }); n != 1 {
		t.Errorf("%v allocations to encode an update, want 1", n)
	}
	u.Encoded(onClassic)
	if n := testing.AllocsPerRun(100, func() { u.Encoded(onClassic) }); n != 0 {
		t.Errorf("%v allocations for each further recipient, want 0", n)
	}
}

// A frame that is made in place is the one that is appended.
func TestFramesMadeInPlace(t *testing.T) {
	for _, size := range []int{0, 125, 126, 1<<16 - 1, 1 << 16} {
		payload := bytes.Repeat([]byte("x"), size)
		got := frameAround(append(make([]byte, maxHead), payload...), websocket.TextMessage)
		if want := appendFrame(nil, websocket.TextMessage, payload); !bytes.Equal(got, want) {
			t.Errorf("around %d bytes the frame is % x…, want % x…", size, got[:maxHead], want[:maxHead])
		}
	}
}
