package proxies

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web"
)

// nodeConfig is what a node is told.
type nodeConfig struct {
	Name       string
	Addr       string
	NSQ        string
	Database   string
	DrainDelay time.Duration
}

// nodeRole is that of a process which is a node.
const nodeRole = "proxies-node"

func beNode(c nodeConfig) error {
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	go func() {
		os.Stdin.Read(make([]byte, 1)) // ends with the test, however that ends: its end of the pipe closes
		os.Exit(2)
	}()
	pool, err := pgxpool.New(stop, c.Database)
	if err != nil {
		return err
	}
	defer pool.Close()
	sync, err := es.New(es.Config{
		NSQAddr: c.NSQ, DrainDelay: c.DrainDelay, Web: web.Config{RemoteAddr: clientAddr},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)).With(slog.String("node", c.Name)),
		OnMessage: func(s web.Session, _ []byte) { // who am I?
			if err := s.Send(fmt.Appendf(nil, "%q", s.Remote())); err != nil {
				slog.Warn("answering", slog.Any("error", err))
			}
		},
	})
	if err != nil {
		return err
	}
	if err := es.RegisterQuery(stop, sync, items, db.Batch(pool, "select * from items where id = any($1)")); err != nil {
		return err
	}
	return serve(stop, c, sync, pool)
}

// serve runs the node's server until stop ends.
func serve(stop context.Context, c nodeConfig, sync *es.EntitySync, pool *pgxpool.Pool) error {
	mux := http.NewServeMux()
	mux.Handle("/", probes(stop, sync))
	mux.Handle("/ws/entity-sync/", sync)
	mux.HandleFunc("GET /name", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, c.Name) })
	mux.HandleFunc("GET /bus", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, sync.Ready()) })
	mux.HandleFunc("POST /items/{id}", func(w http.ResponseWriter, r *http.Request) {
		key := shared.EntityKey{Entity: items, ID: r.PathValue("id")}
		_, err := pool.Exec(r.Context(), "update items set rev = rev + 1 where id = $1", key.ID)
		if err := errors.Join(err, sync.Notify(r.Context(), key)); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	listener, err := net.Listen("tcp", c.Addr)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Println(listener.Addr())
	select {
	case err := <-served:
		return err
	case <-stop.Done():
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*c.DrainDelay+10*time.Second)
	defer cancel()
	return errors.Join(sync.Close(ctx), server.Shutdown(ctx))
}
