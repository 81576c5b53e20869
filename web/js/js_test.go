package js_test

import (
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/entity-sync/entity-sync/web/js"
)

func get(t *testing.T, method, path, etag string) *http.Response {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	if etag != "" {
		r.Header.Set("If-None-Match", etag)
	}
	w := httptest.NewRecorder()
	http.StripPrefix("/entity-sync", js.Handler()).ServeHTTP(w, r)
	return w.Result()
}

func TestHandler(t *testing.T) {
	for _, c := range []struct{ path, cache string }{
		{"/entity-sync/index.js", "no-cache"},
		{"/entity-sync/" + js.Version() + "/index.js", "public, max-age=31536000, immutable"},
	} {
		r := get(t, "GET", c.path, "")
		etag := r.Header.Get("ETag")
		if r.StatusCode != 200 || r.Header.Get("Content-Type") != "text/javascript; charset=utf-8" || r.Header.Get("Cache-Control") != c.cache || etag == "" {
			t.Errorf("GET %s: %d %v", c.path, r.StatusCode, r.Header)
		}
		again := get(t, "GET", c.path, etag)
		if again.StatusCode != http.StatusNotModified || again.Header.Get("Cache-Control") != c.cache {
			t.Errorf("GET %s with its ETag: %d %v", c.path, again.StatusCode, again.Header)
		}
		if r := get(t, "GET", c.path, `"another"`); r.StatusCode != 200 {
			t.Errorf("GET %s with another ETag: %d", c.path, r.StatusCode)
		}
		if r := get(t, "HEAD", c.path, ""); r.StatusCode != 200 {
			t.Errorf("HEAD %s: %d", c.path, r.StatusCode)
		}
	}
	if r := get(t, "POST", "/entity-sync/index.js", ""); r.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", r.StatusCode)
	}
	for _, path := range []string{"/", "/package.json", "/js.go", "/../js.go", "/another/index.js", "/" + js.Version() + "/", "/test/world.js"} {
		if r := get(t, "GET", "/entity-sync"+path, ""); r.StatusCode != http.StatusNotFound {
			t.Errorf("GET %s: %d, want 404", path, r.StatusCode)
		}
	}
}

// A page that loads a module finds all that the module imports, under either path.
func TestImportsAreServed(t *testing.T) {
	imports := regexp.MustCompile(`(?m)^import .* from "\./(.*)";$`)
	for _, base := range []string{"/entity-sync/", "/entity-sync/" + js.Version() + "/"} {
		seen := map[string]bool{}
		left := []string{"index.js", "react.js", "store.js", "tabs.js", "tanstack-query.js", "topics.js"}
		for len(left) > 0 {
			name := left[0]
			left = left[1:]
			if seen[name] {
				continue
			}
			seen[name] = true
			r := get(t, "GET", base+name, "")
			text, err := io.ReadAll(r.Body)
			if r.StatusCode != http.StatusOK || err != nil {
				t.Errorf("GET %s%s: %d, %v", base, name, r.StatusCode, err)
			}
			for _, found := range imports.FindAllStringSubmatch(string(text), -1) {
				left = append(left, found[1])
			}
		}
		for _, name := range []string{"connection.js", "hub.js", "link.js", "loop.js", "protocol.js", "request.js", "subscriptions.js", "topicsubscriptions.js", "watched.js"} {
			if !seen[name] {
				t.Errorf("%s is imported by nothing under %s", name, base)
			}
		}
	}
}

// Every module of the package is embedded, and nothing else is.
func TestFilesAreThoseOfThePackage(t *testing.T) {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		_, err := fs.Stat(js.Files(), e.Name())
		embedded, module := err == nil, strings.HasSuffix(e.Name(), ".js") || strings.HasSuffix(e.Name(), ".d.ts")
		if embedded != module {
			t.Errorf("%s is embedded: %v", e.Name(), embedded)
		}
	}
}
