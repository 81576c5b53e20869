package test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
	"github.com/entity-sync/entity-sync/web"
)

// A client on the v2 wire knows when nsqd is gone, dead or frozen, and when what it
// shows is right again.
func TestClientsAreToldWhileNSQIsGone(t *testing.T) {
	for name, fault := range map[string]struct {
		begin, end func(*nsqdtest.Daemon, testing.TB)
	}{
		"killed": {(*nsqdtest.Daemon).Kill, (*nsqdtest.Daemon).Start},
		"frozen": {(*nsqdtest.Daemon).Freeze, (*nsqdtest.Daemon).Thaw},
	} {
		t.Run(name, func(t *testing.T) {
			nsqd := nsqdtest.Start(t)
			var db database
			n := startNode(t, &db, es.Config{NSQAddr: nsqd.Addr})
			untilReady(t, n)
			ws, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(n.server.URL, "http"), http.Header{"Sec-WebSocket-Protocol": {web.SubprotocolV2}})
			if err != nil {
				t.Fatal(err)
			}
			defer ws.Close()
			want := func(want string) {
				t.Helper()
				var f struct {
					Action string
					Body   struct{ Rows []row }
				}
				ws.SetReadDeadline(time.Now().Add(patience))
				_, b, err := ws.ReadMessage()
				if err != nil {
					t.Fatalf("waiting for %q: %v", want, err)
				}
				if err := json.Unmarshal(b, &f); err != nil {
					t.Fatal(err)
				}
				got := f.Action
				for _, r := range f.Body.Rows {
					got += fmt.Sprint(" ", r.Rev)
				}
				if got != want {
					t.Fatalf("told %q, want %q", got, want)
				}
			}
			rev := db.write("100")
			if err := ws.WriteMessage(websocket.TextMessage, []byte(`{"action":"subscribe","body":{"entity":"items","id":"100"}}`)); err != nil {
				t.Fatal(err)
			}
			want("ack")
			want(fmt.Sprint("update ", rev))
			begin := time.Now()
			fault.begin(nsqd, t)
			want("stale")
			t.Logf("told after %v", time.Since(begin).Round(time.Millisecond))
			rev = db.write("100")
			fault.end(nsqd, t)
			want(fmt.Sprint("update ", rev))
			want("fresh")
		})
	}
}
