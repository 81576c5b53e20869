package origin_test

import (
	"net/http/httptest"
	"testing"

	"github.com/entity-sync/entity-sync/web/internal/origin"
)

// An origin that Check takes lets the pages of that origin in, and no others.
func TestWhatIsCheckedIsAllowed(t *testing.T) {
	origins := []string{"https://example.com", "http://example.com", "http://example.com:8080", "http://[::1]:81", "https://xn--exmple-cua.com", "chrome-extension://abcdef"}
	for _, allowed := range origins {
		if err := origin.Check(allowed); err != nil {
			t.Errorf("%s: %v", allowed, err)
		}
		for _, page := range origins {
			r := httptest.NewRequest("GET", "https://keys.example.net/", nil)
			r.Header.Set("Origin", page)
			if got := origin.Allowed(r, []string{allowed}); got != (page == allowed) {
				t.Errorf("a page of %s, where %s is allowed: %v", page, allowed, got)
			}
		}
	}
}

// A request that a browser would not send is no page's, and a request without an Origin is no
// browser's.
func TestRequestsThatAreNoPages(t *testing.T) {
	for _, c := range []struct {
		origins []string
		want    bool
	}{
		{nil, true},
		{[]string{""}, true},
		{[]string{"null"}, false},
		{[]string{"https://"}, false},
		{[]string{"https://keys.example.net"}, true},
		{[]string{"http://keys.example.net:443"}, true},
		{[]string{"https://keys.example.net", "https://keys.example.net"}, false},
		{[]string{"https://\u212aeys.example.net"}, false},
	} {
		r := httptest.NewRequest("GET", "https://keys.example.net/", nil)
		r.Host = "keys.example.net:443"
		r.Header["Origin"] = c.origins
		if got := origin.Allowed(r, nil); got != c.want {
			t.Errorf("%q: %v, want %v", c.origins, got, c.want)
		}
	}
}
