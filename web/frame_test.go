package web

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	"pgregory.net/rapid"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/shared"
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
	if n := testing.AllocsPerRun(100, func() { classicWire{}.Encode(u) }); n != 1 {
		t.Errorf("%v allocations to encode an update, want 1", n)
	}
	u.Encoded(classicWire{})
	if n := testing.AllocsPerRun(100, func() { u.Encoded(classicWire{}) }); n != 0 {
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

// What is written by hand says what an encoder would.
func TestRowsAreEncodedAsByAnEncoder(t *testing.T) {
	text := rapid.OneOf(rapid.StringN(0, 20, -1), rapid.StringOf(rapid.SampledFrom([]rune("\"\\/<>&\u2028\x00\n é😀"))))
	row := rapid.Custom(func(t *rapid.T) []byte {
		s := text.Draw(t, "text")
		if rapid.Bool().Draw(t, "JSON") {
			quoted, _ := json.Marshal(map[string]any{s: []any{s, 1.5, nil}})
			return quoted
		}
		return []byte(s)
	})
	rapid.Check(t, func(t *rapid.T) {
		u := &bridge.Update{
			Key:     shared.EntityKey{Entity: shared.EntityType(text.Draw(t, "entity")), ID: text.Draw(t, "id")},
			Version: bridge.Version(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "version")),
			Rows:    rapid.SliceOfN(row, 0, 4).Draw(t, "rows"),
		}
		body := &v2Body{Entity: u.Key.Entity, ID: u.Key.ID, Version: u.Version.String()}
		for _, row := range u.Rows {
			body.Rows = append(body.Rows, asJSON(row))
		}
		decode := func(frame []byte) (v any) {
			payload := payloadOf(t, frame)
			if err := json.Unmarshal(payload, &v); err != nil {
				t.Fatalf("%q is not JSON: %v", payload, err)
			}
			return v
		}
		got, want := decode(v2Wire{}.Encode(u)), decode(v2Frame{Action: "update", Body: body}.encode())
		// An encoder leaves out what is empty, and so an empty key, which there is not.
		if u.Key.Entity != "" && u.Key.ID != "" && !reflect.DeepEqual(got, want) {
			t.Fatalf("it says %v, want %v", got, want)
		}
	})
}

// websocketPayload returns what is in a frame of a server's.
func payloadOf(t *rapid.T, frame []byte) []byte {
	n, head := int(frame[1]), 2
	if n == 126 {
		n, head = int(frame[2])<<8|int(frame[3]), 4
	}
	if frame[0] != 0x81 || len(frame) != head+n {
		t.Fatalf("this is no frame: % x", frame)
	}
	return frame[head:]
}
