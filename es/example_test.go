package es_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gorilla/mux"
	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/shared"
)

// A row is fetched with the secret of the client it goes to, and pushed again
// after each Notify.
func ExampleNew() {
	type Item struct {
		Name  string  `json:"name"`
		Price float64 `json:"price"`
		Cost  float64 `json:"cost,omitempty"` // for the manager's eyes
	}
	var table atomic.Pointer[Item] // stands for the database
	table.Store(&Item{Name: "apple", Price: 0.5, Cost: 0.2})

	sync, err := es.New(es.Config{}) // with NSQAddr to join other nodes
	if err != nil {
		log.Fatal(err)
	}
	defer sync.Close(context.Background())
	err = es.Register(sync, "items", func(ctx context.Context, key shared.EntityKey, secret string) (Item, error) {
		item := *table.Load() // SELECT … WHERE id = key.ID
		if secret != "manager" {
			item.Cost = 0
		}
		return item, nil
	})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/ws/entity-sync/", sync)
	server := httptest.NewServer(mux)
	defer server.Close()

	// What the browser does:
	ws, _, err := websocket.DefaultDialer.Dial(strings.Replace(server.URL, "http", "ws", 1)+"/ws/entity-sync/", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer ws.Close()
	say := func(message string) { ws.WriteMessage(websocket.TextMessage, []byte(message)) }
	show := func() { _, row, _ := ws.ReadMessage(); fmt.Println(string(row)) }
	say(`{"action":"secret","body":"manager"}`)
	say(`{"action":"subscribe","body":{"entity":"items","id":"1","snapshot":true}}`)
	show()

	// What the application does after a write:
	table.Store(&Item{Name: "apple", Price: 0.6, Cost: 0.2})
	if err := sync.Notify(context.Background(), shared.EntityKey{Entity: "items", ID: "1"}); err != nil {
		log.Fatal(err)
	}
	show()
	// Output:
	// {"name":"apple","price":0.5,"cost":0.2}
	// {"name":"apple","price":0.6,"cost":0.2}
}

// The classic form: a mux, and a handler that passes each row on.
func ExampleSetup() {
	config := es.Config{Mux: mux.NewRouter()} // with NSQAddr to join other nodes
	entitySync := es.Setup(config)
	defer entitySync.Close(context.Background())
	entitySync.RegisterEntityAndDBHandler("report", func(key shared.EntityKey, secret string, handler shared.ByteHandler) {
		for _, row := range []map[string]string{{"report": key.ID}, {"author": "anna"}} {
			b, _ := json.Marshal(row)
			handler(b)
		}
	})
	server := httptest.NewServer(config.Mux)
	defer server.Close()

	ws, _, err := websocket.DefaultDialer.Dial(strings.Replace(server.URL, "http", "ws", 1)+"/ws/entity-sync/", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer ws.Close()
	ws.WriteMessage(websocket.TextMessage, []byte(`{"action":"subscribe","body":{"entity":"report","id":"7"}}`))
	for entitySync.Bridge.Stats().Subscriptions == 0 {
		time.Sleep(time.Millisecond) // this wire acknowledges nothing
	}
	entitySync.Bridge.NotifyAllOfChange(shared.EntityKey{Entity: "report", ID: "7"})
	for range 2 {
		_, row, _ := ws.ReadMessage()
		fmt.Println(string(row))
	}
	// Output:
	// {"report":"7"}
	// {"author":"anna"}
}
