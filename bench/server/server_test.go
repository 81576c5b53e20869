package server

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/bench/workload"
	"github.com/entity-sync/entity-sync/web/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The bare loop's frame is as long as the one that it is held against, whatever the
// key and its revision.
func TestTheBareLoopWritesAsMuch(t *testing.T) {
	const key = 1234
	table := workload.NewTable(key + 1)
	table.Change(key)
	node, err := newEntitySync(Config{Subject: EntitySync, Layout: workload.Layout{Clients: 1, Each: 1, Keys: key + 1}}, table)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := node.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	s := httptest.NewServer(node)
	defer s.Close()
	dialer := websocket.Dialer{Subprotocols: []string{wire.SubprotocolV2}}
	conn, response, err := dialer.Dial(strings.Replace(s.URL, "http", "ws", 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	defer response.Body.Close()
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	subscribe := fmt.Sprintf(`{"action":"subscribe","ref":1,"body":{"entity":%q,"id":%q}}`, workload.Entity, workload.ID(key))
	if err := conn.WriteMessage(websocket.TextMessage, []byte(subscribe)); err != nil {
		t.Fatal(err)
	}
	for {
		_, message, err := conn.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(message), `{"action":"update"`) {
			continue
		}
		if bare := updateFrame(nil, table.Get(key)); len(bare) != len(frame(nil, message)) {
			t.Errorf("the bare loop writes\n%s\nfor\n%s", bare, message)
		}
		return
	}
}
