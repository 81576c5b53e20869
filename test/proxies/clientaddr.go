package proxies

import (
	"cmp"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// docs/proxies.md shows what follows, with other addresses; a test compares the two.
var proxies = netip.MustParsePrefix("127.0.0.1/32")

// clientAddr is for Config.Web.RemoteAddr. The proxy writes the last address of the header.
// Those before it, and all of a request that has not come from the proxy, may be made up.
func clientAddr(r *http.Request) string {
	peer, _, _ := net.SplitHostPort(r.RemoteAddr)
	addr, err := netip.ParseAddr(peer)
	if err != nil || !proxies.Contains(addr.Unmap()) {
		return peer
	}
	all := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	return cmp.Or(strings.TrimSpace(all[len(all)-1]), peer)
}
