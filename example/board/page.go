package main

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"regexp"
)

//go:embed page/index.html
var indexHTML string

//go:embed page/*.css page/*.js page/*.svg
var assetFiles embed.FS

var indexTemplate = template.Must(template.New("index").Parse(indexHTML))

// pageData is what the page is told about the node that serves it.
type pageData struct {
	Node      string // such as "node 1"
	Other     string // the other node's name
	OtherPort string
}

// mountPage makes mux serve the page and its files.
func mountPage(mux *http.ServeMux, data pageData) error {
	var index bytes.Buffer
	if err := indexTemplate.Execute(&index, data); err != nil {
		return fmt.Errorf("making the page: %w", err)
	}
	assets, err := fs.Sub(assetFiles, "page")
	if err != nil {
		return fmt.Errorf("finding the page's files: %w", err)
	}
	files := http.StripPrefix("/assets/", http.FileServerFS(assets))
	mux.Handle("GET /assets/", withPageHeaders(files))
	mux.Handle("GET /{$}", withPageHeaders(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(index.Bytes())
	})))
	return nil
}

// plainHost matches a host that can stand in a header as it is.
var plainHost = regexp.MustCompile(`^[A-Za-z0-9.:\[\]-]+$`)

// withPageHeaders lets the page load from and connect to this node alone.
func withPageHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connect := "'self'"
		if plainHost.MatchString(r.Host) {
			// Some browsers do not take 'self' to mean WebSockets too.
			connect += " ws://" + r.Host + " wss://" + r.Host
		}
		h := w.Header()
		h.Set("Content-Security-Policy",
			"default-src 'self'; connect-src "+connect+"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		next.ServeHTTP(w, r)
	})
}
