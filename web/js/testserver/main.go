// Testserver is the server for the tests of the browser client: two nodes behind a front,
// which fail as they are told to over HTTP. It prints their addresses as one line of JSON, and
// ends when its standard input ends.
//
//	testserver '{"verify":true}'
package main

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/entity-sync/entity-sync/internal/clienttest"
	"github.com/entity-sync/entity-sync/web"
)

func main() {
	log.SetFlags(0)
	var o clienttest.Options
	if len(os.Args) > 1 {
		if err := json.Unmarshal([]byte(os.Args[1]), &o); err != nil {
			log.Fatal("the options: ", err)
		}
	}
	w, err := clienttest.New(o)
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	if err != nil {
		log.Fatal(err)
	}
	control := &http.Server{Handler: w, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = control.Serve(l) }() // until the process ends
	err = json.NewEncoder(os.Stdout).Encode(map[string]string{
		"url":     "ws://" + w.Front.Addr() + web.DefaultPath,
		"control": "http://" + l.Addr().String(),
	})
	if err != nil {
		log.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test ends
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = w.Close(ctx) // the process ends anyway
}
