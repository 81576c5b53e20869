// Command ownqueue is a classic program that brings a queue of its own, and
// changes a row as soon as somebody asks for it over HTTP. With -nsqd it uses
// NSQ through the same two functions.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync"

	esbridge "github.com/entity-sync/entity-sync/bridge"
	esq "github.com/entity-sync/entity-sync/bridge/nsqbus"
	esdb "github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/shared"
	esweb "github.com/entity-sync/entity-sync/web"
)

var listenLocal = flag.String("listen", ":8080", "listen addr: :8080")
var nsqAddr = flag.String("nsqd", "", "nsqd address; empty for a queue of our own")

// handlers is the queue: whoever listens is called.
var handlers = struct {
	sync.Mutex
	m map[string][]shared.ByteHandler
}{m: map[string][]shared.ByteHandler{}}

var BuildPublisher shared.AddressableEntityHandler = func(addr string) shared.EntityHandler {
	return func(entityType shared.EntityType) shared.ByteHandler {
		return func(b []byte) {
			handlers.Lock()
			listeners := handlers.m[addr+entityType.GetQueueName()]
			handlers.Unlock()
			for _, h := range listeners {
				h(b)
			}
		}
	}
}

var BuildSubscriber shared.AddressableEntityByteHandler = func(addr string) shared.EntityByteHandler {
	return func(entityType shared.EntityType, callback shared.ByteHandler) {
		handlers.Lock()
		defer handlers.Unlock()
		name := addr + entityType.GetQueueName()
		handlers.m[name] = append(handlers.m[name], callback)
	}
}

func main() {
	flag.Parse()

	var rows sync.Map
	databaseHub := esdb.NewDatabaseHub()
	databaseHub.AddDataPullAndPushHandler("items", func(rowKey shared.EntityKey, secret string, pusher shared.ByteHandler) {
		row, _ := rows.Load(rowKey.ID)
		pusher(fmt.Appendf(nil, `{"row":%q,"for":%q}`, row, secret))
		pusher([]byte(`{"and":"another"}`))
	})

	var bridge *esbridge.Bridge
	if *nsqAddr == "" {
		bridge = esbridge.BuildBridge(BuildPublisher("here"), BuildSubscriber("here"), databaseHub.PullDataAndPush)
	} else {
		bridge = esbridge.BuildBridge(esq.BuildPublisher(*nsqAddr), esq.BuildSubscriber(*nsqAddr), databaseHub.PullDataAndPush)
	}
	bridge.RegisterEntityForSync("items")

	mux := http.NewServeMux()
	esweb.SetupMuxBridge(mux, bridge.ClientBuilder)
	mux.HandleFunc("/write", func(w http.ResponseWriter, r *http.Request) {
		key := shared.EntityKey{Entity: "items", ID: r.FormValue("id")}
		rows.Store(key.ID, r.FormValue("row"))
		if err := bridge.NotifyAllOfChange(key); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})

	l, err := net.Listen("tcp", *listenLocal)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", l.Addr())
	log.Fatal(http.Serve(l, mux))
}
