package es_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/testkit/nodetest"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/client"
)

// A worker that only writes announces what another node serves. A bus within the
// process takes the place of NSQ here.
func ExampleAnnounces() {
	var broker membus.Broker
	var price atomic.Int64 // stands for the database
	key := shared.EntityKey{Entity: "items", ID: "100"}

	node, err := es.New(es.Config{Bus: broker.NewNode()}) // with NSQAddr in real life
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close(context.Background())
	err = es.Register(node, "items", func(context.Context, shared.EntityKey, string) (map[string]int64, error) {
		return map[string]int64{"price": price.Load()}, nil
	})
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(node)
	defer server.Close()
	page, err := client.Dial(context.Background(), server.URL, client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer page.Close()

	// The worker, which is a process of its own in real life:
	worker, err := es.New(es.Config{Bus: broker.NewNode()}) // with NSQAddr in real life
	if err != nil {
		log.Fatal(err)
	}
	defer worker.Close(context.Background())
	if err := es.Announces(worker, "items"); err != nil {
		log.Fatal(err)
	}

	for item, err := range client.Watch[map[string]int64](context.Background(), page, key) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(item["price"])
		if item["price"] == 60 {
			break
		}
		price.Store(60)
		if err := worker.Notify(context.Background(), key); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// 0
	// 60
}

func TestAnnouncesSaysWhichNamesAreBad(t *testing.T) {
	s := nodetest.New(t, es.Config{})
	err := es.Announces(s, "items", "a b", "orders", "c d")
	if !errors.Is(err, shared.ErrBadEntity) || !strings.Contains(err.Error(), `"a b"`) || !strings.Contains(err.Error(), `"c d"`) {
		t.Errorf("it returned %v, want an error that names both", err)
	}
	for _, entity := range []shared.EntityType{"items", "orders"} {
		if err := s.Notify(t.Context(), shared.EntityKey{Entity: entity, ID: "1"}); err != nil {
			t.Errorf("Notify of %s: %v", entity, err)
		}
	}
}

// The classic registration takes an announced type as well.
func TestAnnouncedAndThenRegisteredInTheClassicForm(t *testing.T) {
	s := nodetest.New(t, es.Config{})
	if err := es.Announces(s, "items"); err != nil {
		t.Fatal(err)
	}
	err := s.RegisterEntityAndDBHandler("items", func(_ shared.EntityKey, _ string, push shared.ByteHandler) { push([]byte(`"a row"`)) })
	if err != nil {
		t.Fatal(err)
	}
	if _, registered := s.Bridge.Stats().Entities["items"]; !registered {
		t.Error("it is not registered")
	}
}
