package web_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/web"
)

// A port that is the scheme's own is the same as none, whether the page, the proxy or
// the server's configuration names it.
func TestAnOriginsPortMayGoWithoutSaying(t *testing.T) {
	s := start(t, web.Config{AllowedOrigins: []string{"https://one.example.com:443", "http://two.example.com", "http://[::1]", "https://Three.example.com"}}, echo)
	for _, c := range []struct {
		origin, host string
		taken        bool
	}{
		{"https://app.example.com", "app.example.com:443", true},
		{"https://app.example.com", "app.example.com", true},
		{"https://app.example.com:443", "app.example.com", true},
		{"http://app.example.com", "app.example.com:80", true},
		{"http://[::1]", "[::1]:80", true},
		{"https://app.example.com", "app.example.com:80", false},
		{"http://app.example.com", "app.example.com:443", false},
		{"https://app.example.com:8443", "app.example.com", false},
		{"app://app.example.com", "app.example.com:443", false},
		{"https://one.example.com", "x", true},
		{"https://one.example.com:443", "x", true},
		{"http://one.example.com", "x", false},
		{"http://one.example.com:443", "x", false},
		{"http://two.example.com:80", "x", true},
		{"http://two.example.com:8080", "x", false},
		{"http://[::1]:80", "x", true},
		{"https://three.example.com", "x", true},
		{"https://three.example.com/", "x", false},
	} {
		got := s.status(t, http.Header{"Host": {c.host}, "Origin": {c.origin}}).StatusCode
		if want := map[bool]int{true: 101, false: 403}[c.taken]; got != want {
			t.Errorf("a page of %s at the host %s is answered with %d, want %d", c.origin, c.host, got, want)
		}
	}
	for _, origins := range [][]string{{s.URL, "https://evil.example.com"}, {"", "https://evil.example.com"}} {
		if got := s.status(t, http.Header{"Origin": origins}).StatusCode; got != 403 {
			t.Errorf("pages of %q are answered with %d", origins, got)
		}
	}
}

// What no browser says is refused at the start, with what to write in its place.
func TestAnAllowedOriginIsWhatABrowserSays(t *testing.T) {
	b, err := bridge.New(bridge.Config{Bus: new(membus.Broker).NewNode()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close(t.Context())
	for origin, want := range map[string]string{
		"example.com": "scheme://host", "https://example.com/": "scheme://host", "https://*.example.com": "scheme://host", "null": "scheme://host",
		"https://me@example.com": "scheme://host", "https://": "scheme://host", "https://:443": "scheme://host", "https://exa%41mple.com": "scheme://host",
		"wss://example.com": "https://example.com", "ws://example.com:81": "http://example.com:81",
		"https://exämple.com": "xn--", "https://example.com:": "a port", "https://example.com:0443": "a port", "https://example.com:70000": "a port",
		"https://[::1]:0": "a port", "http://[0:0:0:0:0:0:0:1]": "::1",
	} {
		_, err := web.New(web.Config{Bridge: b, AllowedOrigins: []string{origin}})
		if err == nil || !strings.Contains(err.Error(), "AllowedOrigins") || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is answered with %v, want %q in it", origin, err, want)
		}
	}
	for _, origin := range []string{"*", "https://example.com", "HTTPS://Example.com:443", "http://localhost:8080", "http://127.0.0.1", "http://[::1]:81", "chrome-extension://abcdef", "https://xn--exmple-cua.com"} {
		h, err := web.New(web.Config{Bridge: b, AllowedOrigins: []string{origin}})
		if err != nil {
			t.Errorf("%q: %v", origin, err)
			continue
		}
		if err := h.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
