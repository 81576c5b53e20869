// Command notes is the program of docs/postgres.md: everybody sees their own notes,
// and sees them change, whoever changes them.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/js"
)

var (
	//go:embed schema.sql
	schema string
	//go:embed page.html
	page []byte
)

// grants lets the application relay what the triggers write.
const grants = `grant select, insert, update, delete on entity_sync_outbox to notes_app`

// users stands in for your sessions: whose token is it?
var users = map[string]string{"token-of-ann": "ann", "token-of-bob": "bob"}

func main() {
	migrate := flag.String("migrate", "", "prepare the database at this URL, as its owner, and end")
	addr := flag.String("addr", "127.0.0.1:8080", "where to serve")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := func() error { return serve(ctx, *addr, os.Getenv("DATABASE_URL"), os.Getenv("NSQ_ADDR")) }
	if *migrate != "" {
		run = func() error { return prepare(ctx, *migrate) }
	}
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func prepare(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, schema); err != nil {
		return err
	}
	if err := db.EnsureSchema(ctx, conn); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, grants); err != nil {
		return err
	}
	// From now on every write to notes announces the lists that it changes.
	return db.Track(ctx, conn, "notes", "lists", "owner")
}

func serve(ctx context.Context, addr, databaseURL, nsqAddr string) error {
	pool, err := db.Open(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer pool.Close()
	node, err := es.New(es.Config{NSQAddr: nsqAddr, Outbox: &db.Outbox{Pool: pool}})
	if err != nil {
		return err
	}
	lists := db.Rows(pool, `select id, text from notes where owner = $1 order by id`).AsViewer(claims)
	if err := es.RegisterQuery(ctx, node, "lists", lists); err != nil {
		return err
	}

	mux := http.NewServeMux()
	mux.Handle("/ws/entity-sync/", node)
	mux.Handle("GET /entity-sync/", http.StripPrefix("/entity-sync", js.Handler())) // the browser client
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(page) })
	mux.HandleFunc("POST /notes", func(w http.ResponseWriter, r *http.Request) {
		if err := add(r.Context(), pool, r.FormValue("token"), r.FormValue("text")); err != nil {
			log.Print(err)
			http.Error(w, "not saved", http.StatusInternalServerError)
		}
	})
	server := &http.Server{Addr: addr, Handler: mux, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	log.Printf("serving on http://%s/?token=token-of-ann", addr)
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(err, node.Close(closing), server.Shutdown(closing)) // clients first
}

// claims says who the holder of a secret is, for the policy to decide.
func claims(_ context.Context, secret string) (map[string]string, error) {
	user, ok := users[secret]
	if !ok {
		return nil, shared.ErrForbidden
	}
	return map[string]string{"app.user": user}, nil
}

// add writes a note. It tells nobody: the table's triggers do, with the commit.
func add(ctx context.Context, pool *pgxpool.Pool, token, text string) error {
	user, ok := users[token]
	if !ok {
		return shared.ErrForbidden
	}
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select set_config('app.user', $1, true)", user); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "insert into notes (owner, text) values ($1, $2)", user, text)
		return err
	})
}
