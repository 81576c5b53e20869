package web

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
)

// retryAfter is how many seconds a refused client is told to wait.
const retryAfter = "5"

// admission counts the sessions of a node, and those of each address if they are bounded.
type admission struct {
	mu     sync.Mutex
	total  int
	byAddr map[string]int
}

// admit takes a place for a session, which release gives back. If there is none it answers the
// request and returns false.
func (h *Handler) admit(w http.ResponseWriter, addr string) bool {
	why, full := h.takePlace(addr)
	if full {
		w.Header().Set("Retry-After", retryAfter)
		h.turnAway(w, why)
	}
	return !full
}

func (h *Handler) takePlace(addr string) (why obstacle, full bool) {
	a := &h.admission
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.total >= h.config.MaxSessions {
		return nodeFull, true
	}
	if limit := h.config.MaxSessionsPerAddr; limit > 0 {
		addr = networkOf(addr)
		if a.byAddr[addr] >= limit {
			return addressFull, true
		}
		if a.byAddr == nil {
			a.byAddr = make(map[string]int)
		}
		a.byAddr[addr]++
	}
	a.total++
	return 0, false
}

func (h *Handler) release(addr string) {
	a := &h.admission
	a.mu.Lock()
	defer a.mu.Unlock()
	a.total--
	if a.byAddr == nil {
		return
	}
	addr = networkOf(addr)
	if a.byAddr[addr]--; a.byAddr[addr] <= 0 {
		delete(a.byAddr, addr)
	}
}

// anybody reports whether there are sessions, or clients that are being let in.
func (h *Handler) anybody() bool {
	a := &h.admission
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.total > 0
}

// networkOf returns the network by which sessions are counted: of an IPv6 address its /64,
// because one customer has at least a /64, with more addresses than can be counted.
func networkOf(addr string) string {
	const ours = 64 // bits
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		return addr
	}
	if ip = ip.Unmap().WithZone(""); ip.Is4() {
		return ip.String()
	}
	prefix, err := ip.Prefix(ours)
	if err != nil {
		return addr
	}
	return prefix.String()
}

// hostOf returns the host from which a request comes.
func hostOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
