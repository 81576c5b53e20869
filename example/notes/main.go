// Command notes is the program of docs/postgres.md: everybody sees their own notes,
// and sees them change, whoever changes them.
package main

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/js"
)

//go:embed page.html
var page []byte

// users stands in for your sessions: whose token is it?
var users = map[string]string{"token-of-ann": "ann", "token-of-bob": "bob"}

// claims says who the holder of a secret is, as the settings that policies read.
func claims(_ context.Context, secret string) (map[string]string, error) {
	user, ok := users[secret]
	if !ok {
		return nil, shared.ErrForbidden
	}
	return map[string]string{"app.user": user}, nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx); err != nil {
		log.Fatal(err)
	}
}

func serve(ctx context.Context) error {
	pool, err := db.Open(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer pool.Close()
	node, err := es.New(es.Config{NSQAddr: os.Getenv("NSQ_ADDR"), Outbox: &outbox.Config{Pool: pool}})
	if err != nil {
		return err
	}
	lists := db.Rows(pool, `select id, text from notes where owner = $1 order by id`).AsViewer(claims)
	if err := es.RegisterQuery(ctx, node, "lists", lists); err != nil {
		return err
	}

	http.Handle("/ws/entity-sync/", node)
	http.Handle("/entity-sync/", http.StripPrefix("/entity-sync", js.Handler())) // the browser client
	http.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(page) })
	server := &http.Server{
		Addr:              cmp.Or(os.Getenv("ADDR"), "127.0.0.1:8080"),
		ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, // against hostile clients
	}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	log.Print("serving on http://", server.Addr)
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(err, node.Close(closing), server.Shutdown(closing)) // clients first
}
