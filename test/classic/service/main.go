// Command service is a program as the first users of the classic system write
// it: one Setup, one handler, a mux, and a goroutine that changes a row.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/mux"

	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/shared"
)

const entityType shared.EntityType = "items"
const entityID string = "100"

var listenLocal = flag.String("listen", ":8080", "listen addr: :8080")
var nsqAddr = flag.String("nsqd", "127.0.0.1:4150", "nsqd address")
var mutate = flag.Bool("mutate", false, "change the row ten times a second")

type item struct {
	ID    string `json:"id"`
	Count int    `json:"count"`
	For   string `json:"for"`
	Pass  string `json:"pass"`
}

var m sync.Mutex
var count int
var passed string

func main() {
	flag.Parse()

	config := es.Config{
		Mux:     mux.NewRouter(),
		NSQAddr: *nsqAddr,
		WSPassThrough: func(secret string, b []byte) {
			m.Lock()
			defer m.Unlock()
			passed = secret + string(b)
		},
	}
	entitySync := es.Setup(config)

	entitySync.RegisterEntityAndDBHandler(entityType, func(entityKey shared.EntityKey, secret string, handler shared.ByteHandler) {
		b, _ := json.Marshal(fetch(entityKey, secret))
		handler(b)
	})

	if *mutate {
		go mutator(entitySync)
	}

	l, err := net.Listen("tcp", *listenLocal)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", l.Addr())
	log.Fatal(http.Serve(l, config.Mux))
}

func fetch(entityKey shared.EntityKey, secret string) item {
	m.Lock()
	defer m.Unlock()
	return item{ID: entityKey.ID, Count: count, For: secret, Pass: passed}
}

func mutator(entitySync es.EntitySync) {
	for {
		time.Sleep(100 * time.Millisecond)
		m.Lock()
		count++
		m.Unlock()
		entitySync.Bridge.NotifyAllOfChange(shared.EntityKey{Entity: entityType, ID: entityID})
	}
}
