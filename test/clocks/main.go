// Command clocks is a node whose clock of the wall can be set, when it is built with the
// overlay that TestOrdersWhateverTheClocksSay makes: time.Now then adds as many seconds as
// the environment says.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/nsqbus"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web"
)

// Step is the variable of the environment that says by how many seconds.
const Step = "ENTITY_SYNC_TEST_STEP"

func main() {
	nsqd := flag.String("nsqd", "", "the TCP address of an nsqd")
	listen := flag.String("listen", "", "where to listen")
	flag.Parse()
	if err := run(*nsqd, *listen); err != nil {
		log.Fatal(err)
	}
}

func run(nsqd, listen string) error {
	bus, err := nsqbus.New(nsqbus.Config{Addrs: []string{nsqd}})
	if err != nil {
		return err
	}
	b, err := bridge.New(bridge.Config{Bus: bus})
	if err != nil {
		return err
	}
	row := func(context.Context, shared.EntityKey, string) ([][]byte, error) { return [][]byte{[]byte(`{}`)}, nil }
	if err := b.Register("items", row, bridge.EntityOptions{}); err != nil {
		return err
	}
	h, err := web.New(web.Config{Bridge: b})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle(web.DefaultPath, h)
	mux.HandleFunc("POST /revoke", answer(func(r *http.Request) error { return h.Revoke(r.Context(), r.FormValue("secret")) }))
	mux.HandleFunc("POST /disconnect", answer(func(r *http.Request) error { return h.Disconnect(r.Context(), r.FormValue("secret")) }))
	mux.HandleFunc("POST /step", answer(func(r *http.Request) error { return os.Setenv(Step, r.FormValue("seconds")) }))
	mux.HandleFunc("POST /now", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, time.Now().Unix()) })
	mux.HandleFunc("POST /ready", answer(func(*http.Request) error {
		if !b.Ready() {
			return errors.New("not yet")
		}
		return nil
	}))
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	fmt.Println("listening on", l.Addr())
	return (&http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}).Serve(l)
}

func answer(f func(*http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := f(r); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	}
}
