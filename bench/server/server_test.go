package server

import (
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/bench/workload"
	"github.com/entity-sync/entity-sync/internal/testkit/socket"
	"github.com/entity-sync/entity-sync/shared"
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
	conn := socket.DialV2(t, s.URL)
	conn.Subscribe(shared.EntityKey{Entity: workload.Entity, ID: workload.ID(key)})
	for {
		message := conn.Read()
		if !strings.HasPrefix(message, `{"action":"update"`) {
			continue
		}
		if bare := updateFrame(nil, table.Get(key)); len(bare) != len(frame(nil, []byte(message))) {
			t.Errorf("the bare loop writes\n%s\nfor\n%s", bare, message)
		}
		return
	}
}
