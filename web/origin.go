package web

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"
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
	if equalFold(u.Host, r.Host) {
		return true // whatever the scheme: a proxy may have taken the TLS off
	}
	return slices.ContainsFunc(allowed, func(a string) bool {
		return a == "*" || equalFold(a, origin)
	})
}

// equalFold is strings.EqualFold for ASCII: a Kelvin sign is no k in a host.
func equalFold(a, b string) bool {
	return isASCII(a) && isASCII(b) && strings.EqualFold(a, b)
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > unicode.MaxASCII }) < 0
}
