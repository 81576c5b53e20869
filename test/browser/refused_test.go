package browser

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/entity-sync/entity-sync/internal/clienttest"
	"github.com/entity-sync/entity-sync/test/chromium"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

// A browser that blocks site data has Web Locks, and refuses each request for one.
func TestTabsWithSiteDataBlocked(t *testing.T) {
	nsqd := nsqdtest.Start(t)
	profile := t.TempDir()
	preferences := filepath.Join(profile, "Default", "Preferences")
	if err := os.MkdirAll(filepath.Dir(preferences), 0o700); err != nil {
		t.Fatal(err)
	}
	const blocked = `{"profile":{"default_content_setting_values":{"cookies":2}}}`
	if err := os.WriteFile(preferences, []byte(blocked), 0o600); err != nil {
		t.Fatal(err)
	}
	s := play(t, chromium.Start(t, chromium.Options{Profile: profile, Explain: noted}), nsqd, clienttest.Options{}, "tabs&secret=me")
	s.goesOnAlone()
}

// So does a page in a sandbox, whose origin is none.
func TestTabsInASandbox(t *testing.T) {
	nsqd := nsqdtest.Start(t)
	browser := chromium.Start(t, chromium.Options{Explain: noted})
	s := play(t, browser, nsqd, clienttest.Options{}, "secret=me")
	server := httptest.NewServer(sandbox(s.world.Front.Addr()))
	t.Cleanup(server.Close)
	s.Tab = browser.Open(t, server.URL+"/page?tabs&secret=me")
	s.showsLive(0)
	s.goesOnAlone()
}

// sandbox is a proxy whose pages are as in an <iframe sandbox="allow-scripts">. A node
// lets no page in that has no origin, so the proxy does not say so.
func sandbox(addr string) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: addr})
			r.Out.Header.Del("Origin")
		},
		ModifyResponse: func(r *http.Response) error {
			r.Header.Set("Content-Security-Policy", "sandbox allow-scripts")
			r.Header.Set("Access-Control-Allow-Origin", "*") // for the modules
			return nil
		},
	}
}

// goesOnAlone checks that the page's locks are refused, and that the page has a
// connection all the same, which comes back.
func (s *scene) goesOnAlone() {
	s.T.Helper()
	s.Run("void navigator.locks.request('mine', () => {}).then(() => window.locks = 'granted', ({ name }) => window.locks = name)")
	s.Until("the browser refuses", "window.locks === 'SecurityError'")
	s.Run("void setInterval(() => window.ticks = (window.ticks ?? 0) + 1, 10)")
	s.Until("the page's timers go on", "window.ticks > 10")
	s.writes(1, 3)
	s.showsLive(3)
	s.world.Front.Cut()
	s.writes(4, 6)
	s.showsLive(6)
	s.wentWell("live offline live")
}
