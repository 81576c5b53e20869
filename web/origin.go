package web

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// originAllowed decides whether the page that opens a socket may do so. Browsers
// send cookies along whatever page asks, so a foreign page could otherwise act
// for its visitor. A request without an Origin is not from a browser's page.
func originAllowed(r *http.Request, allowed []string) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false // "null" among others
	}
	if strings.EqualFold(u.Host, r.Host) {
		return true
	}
	return slices.ContainsFunc(allowed, func(a string) bool {
		return a == "*" || strings.EqualFold(a, origin)
	})
}
