// Package js serves the browser client, so that a page needs no other server and
// no build step for it:
//
//	http.Handle("/entity-sync/", http.StripPrefix("/entity-sync", js.Handler()))
//
// and in the page:
//
//	import { connect } from "/entity-sync/index.js";
package js

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"io/fs"
	"net/http"
	"strings"
	"time"
)

//go:embed callbacks.js connection.js hub.js index.js link.js loop.js protocol.js react.js
//go:embed request.js store.js subscriptions.js tabs.js tanstack-query.js topics.js
//go:embed topicsubscriptions.js watched.js
//go:embed callbacks.d.ts connection.d.ts hub.d.ts index.d.ts link.d.ts loop.d.ts protocol.d.ts react.d.ts
//go:embed request.d.ts store.d.ts subscriptions.d.ts tabs.d.ts tanstack-query.d.ts topics.d.ts
//go:embed topicsubscriptions.d.ts types.d.ts watched.d.ts
var files embed.FS

// Files returns the modules, for programs that serve or bundle them otherwise.
func Files() fs.FS { return files }

// Version names the content of all modules together. A path that begins with it
// never has another content.
func Version() string { return version }

var version = versionOf(files)

func versionOf(files fs.FS) string {
	sum := sha256.New()
	err := fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(files, path)
		sum.Write([]byte(path + "\x00"))
		sum.Write(text)
		return err
	})
	if err != nil {
		panic("js: reading what is embedded: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(sum.Sum(nil)[:12])
}

// Handler serves the modules. Under its own name (/index.js) a browser asks for a module again
// whenever a page is opened, and gets status 304 while it is the same. Under the version
// ("/"+Version()+"/index.js") browsers keep a module for good. Pages of any origin may load
// the modules: there is nothing secret in them.
func Handler() http.Handler { return http.HandlerFunc(serve) }

const forGood = "public, max-age=31536000, immutable"

func serve(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	path, versioned := strings.CutPrefix(r.URL.Path, "/"+version+"/")
	text, err := files.ReadFile(strings.TrimPrefix(path, "/"))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", contentType(path)) // not by the machine's table, which may differ
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("ETag", `"`+version+`"`)
	h.Set("Cache-Control", "no-cache") // may be kept, and must be asked for again
	if versioned {
		h.Set("Cache-Control", forGood)
	}
	http.ServeContent(w, r, path, time.Time{}, bytes.NewReader(text))
}

func contentType(path string) string {
	if strings.HasSuffix(path, ".d.ts") {
		return "text/plain; charset=utf-8"
	}
	return "text/javascript; charset=utf-8"
}
