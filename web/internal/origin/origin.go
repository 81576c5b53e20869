// Package origin compares the origins of pages: the one that a request says, the server's own,
// and those that the application allows.
package origin

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Allowed decides whether the page that opens a socket may do so. Browsers send cookies
// for any page that asks, so a foreign page could otherwise act for its visitor. A request
// without an Origin does not come from a page in a browser.
func Allowed(r *http.Request, allowed []string) bool {
	origins := r.Header.Values("Origin")
	switch {
	case len(origins) == 0 || len(origins) == 1 && origins[0] == "":
		return true
	case len(origins) > 1:
		return false // a browser sends one, and a proxy may go by another than this node
	}
	origin := origins[0]
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false // such as "null"
	}
	if equalFold(withPort(u.Host, u.Scheme), withPort(r.Host, u.Scheme)) {
		return true // with either scheme: a proxy may have ended the TLS
	}
	return slices.ContainsFunc(allowed, func(a string) bool {
		return a == "*" || equalFold(fullOrigin(a), fullOrigin(origin))
	})
}

// withPort adds the scheme's default port to a host without a port. Browsers leave the default
// port out, and proxies do not.
func withPort(host, scheme string) string {
	switch {
	case strings.LastIndexByte(host, ':') > strings.LastIndexByte(host, ']'):
		return host
	case scheme == "https":
		return host + ":443"
	case scheme == "http":
		return host + ":80"
	}
	return host
}

// fullOrigin returns an origin with its port, and anything else as it is.
func fullOrigin(origin string) string {
	u, err := url.Parse(origin)
	if err != nil || !equalFold(u.Scheme+"://"+u.Host, origin) {
		return origin
	}
	return u.Scheme + "://" + withPort(u.Host, u.Scheme)
}

// Check returns an error for an origin that no browser sends. The error says how to
// write the origin that may be meant.
func Check(origin string) error {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme == "" || u.Hostname() == "" || !strings.EqualFold(u.Scheme+"://"+u.Host, origin) || strings.ContainsAny(origin, "*%") {
		return errors.New("want scheme://host or scheme://host:port")
	}
	switch u.Scheme {
	case "ws", "wss":
		return fmt.Errorf("want the scheme of the page, %s://%s", map[string]string{"ws": "http", "wss": "https"}[u.Scheme], u.Host)
	}
	if !isASCII(u.Host) {
		return errors.New("want the host as browsers write it, in ASCII: xn--…")
	}
	if addr, err := netip.ParseAddr(u.Hostname()); err == nil && addr.String() != strings.ToLower(u.Hostname()) {
		return fmt.Errorf("want the address as browsers write it, %s", addr)
	}
	if _, port, named := strings.Cut(strings.TrimPrefix(u.Host, "["+u.Hostname()+"]"), ":"); named {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
			return errors.New("want a port from 1 to 65535, or none")
		}
	}
	return nil
}

// equalFold is strings.EqualFold for ASCII: a Kelvin sign is no k in a host.
func equalFold(a, b string) bool {
	return isASCII(a) && isASCII(b) && strings.EqualFold(a, b)
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > unicode.MaxASCII }) < 0
}
