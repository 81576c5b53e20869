package proxies

import (
	"context"
	"net/http"
	"sync/atomic"

	"github.com/entity-sync/entity-sync/es"
)

// probes answers a supervisor and a load balancer. stop ends when the process is told to.
// docs/operating.md shows this function; a test compares the two.
func probes(stop context.Context, node *es.EntitySync) http.Handler {
	var joined atomic.Bool // the bus was there once
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(http.ResponseWriter, *http.Request) {}) // status 200
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if node.Ready() {
			joined.Store(true)
		}
		if stop.Err() != nil || !joined.Load() {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
		}
	})
	return mux
}
