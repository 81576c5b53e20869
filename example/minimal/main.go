// Command minimal is the smallest program that keeps a page current:
//
//	go run ./example/minimal
//	curl -d 'name=Green tea' http://127.0.0.1:8080/items/100
package main

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	_ "modernc.org/sqlite"

	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/js"
)

const page = `<!doctype html>
<title>Item 100</title>
<h1></h1>
<p></p>
<script type="module">
  import { connect } from "/entity-sync/index.js";
  connect("/ws/entity-sync/", { secret: "my session token" }).subscribe("items", "100", ({ row, state }) => {
    document.querySelector("h1").textContent = row?.name ?? "nothing yet";
    document.querySelector("p").textContent = state; // live, stale, offline …
  });
</script>`

// Item is the row that pages get.
type Item struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	db, err := sql.Open("sqlite", "file:items.db?_pragma=busy_timeout(5000)")
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, "create table if not exists items (id text primary key, name text)"); err != nil {
		return err
	}
	node, err := es.New(es.Config{NSQAddr: os.Getenv("NSQ_ADDR")}) // such as 127.0.0.1:4150
	if err != nil {
		return err
	}
	err = es.Register(node, "items", func(ctx context.Context, key shared.EntityKey, secret string) (Item, error) {
		item := Item{ID: key.ID} // what the client with this secret may see
		err := db.QueryRowContext(ctx, "select name from items where id = $1", key.ID).Scan(&item.Name)
		if errors.Is(err, sql.ErrNoRows) {
			return item, shared.ErrNotFound
		}
		return item, err
	})
	if err != nil {
		return err
	}
	http.HandleFunc("POST /items/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, name := r.PathValue("id"), r.FormValue("name")
		if _, err := db.ExecContext(r.Context(), "replace into items values ($1, $2)", id, name); err != nil { // write first,
			http.Error(w, "not saved", http.StatusInternalServerError)
		} else if err := node.Notify(r.Context(), shared.EntityKey{Entity: "items", ID: id}); err != nil { // then tell
			http.Error(w, "saved, but not everybody could be told", http.StatusServiceUnavailable)
		}
	})
	return serve(ctx, node)
}

func serve(ctx context.Context, node *es.EntitySync) error {
	http.Handle("/ws/entity-sync/", node)
	http.Handle("/entity-sync/", http.StripPrefix("/entity-sync", js.Handler())) // the browser client
	http.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, page) })
	server := &http.Server{
		ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, // against hostile clients
	}
	listener, err := net.Listen("tcp", cmp.Or(os.Getenv("ADDR"), "127.0.0.1:8080"))
	if err != nil {
		return err
	}
	log.Printf("serving http://%s/", listener.Addr())
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(err, node.Close(closing), server.Shutdown(closing)) // clients first
}
