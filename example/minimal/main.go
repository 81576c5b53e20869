// Command minimal is the smallest program that keeps front ends current:
//
//	go run ./example/minimal
//	go run ./example/watch items/100
//	curl -d 'name=Green tea' http://127.0.0.1:8080/items/100
package main

import (
	"cmp"
	"context"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/shared"
)

func main() {
	var items sync.Map // stands in for your database

	node, err := es.New(es.Config{NSQAddr: os.Getenv("NSQ_ADDR")}) // such as 127.0.0.1:4150
	if err != nil {
		log.Fatal(err)
	}
	err = es.Register(node, "items", func(ctx context.Context, key shared.EntityKey, secret string) (map[string]any, error) {
		name, ok := items.Load(key.ID) // what the holder of secret may see
		if !ok {
			return nil, shared.ErrNotFound
		}
		return map[string]any{"id": key.ID, "name": name}, nil
	})
	if err != nil {
		log.Fatal(err)
	}

	http.Handle("/ws/entity-sync/", node)
	http.HandleFunc("POST /items/{id}", func(w http.ResponseWriter, r *http.Request) {
		key := shared.EntityKey{Entity: "items", ID: r.PathValue("id")}
		items.Store(key.ID, r.FormValue("name"))              // write first,
		if err := node.Notify(r.Context(), key); err != nil { // then tell
			http.Error(w, "saved, but not everybody could be told", http.StatusServiceUnavailable)
		}
	})
	server := &http.Server{
		Addr:              cmp.Or(os.Getenv("ADDR"), "127.0.0.1:8080"),
		ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, // against hostile clients
	}
	go func() {
		log.Print("serving on http://", server.Addr)
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			log.Fatal(err)
		}
	}()

	stop, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	<-stop.Done()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := errors.Join(node.Close(ctx), server.Shutdown(ctx)); err != nil { // clients first
		log.Print(err)
	}
}
