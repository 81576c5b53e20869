package web_test

import (
	"net/http"
	"testing"

	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/web"
)

// Who has IPv6 has a /64 at least: all its addresses count as one.
func TestAddressesOfOneNetworkCountAsOne(t *testing.T) {
	s := start(t, web.Config{
		MaxSessionsPerAddr: 2,
		RemoteAddr:         func(r *http.Request) string { return r.Header.Get("X-Forwarded-For") },
	}, echo)
	from := func(addr string) http.Header { return http.Header{"X-Forwarded-For": {addr}} }
	first := s.dialWith(t, from("2001:db8:0:1::1"))
	s.dialWith(t, from("2001:db8:0:1:ffff::2"))
	for addr, want := range map[string]int{"2001:db8:0:1::3": 429, "2001:0DB8:0:1::1": 429, "2001:db8:0:2::1": 101, "192.0.2.1": 101, "somewhere": 101} {
		if got := s.status(t, from(addr)).StatusCode; got != want {
			t.Errorf("a client from %s is answered with %d, want %d", addr, got, want)
		}
	}
	s.dialWith(t, from("192.0.2.7"))
	s.dialWith(t, from("::ffff:192.0.2.7"))
	for addr, want := range map[string]int{"192.0.2.7": 429, "::ffff:192.0.2.7": 429, "192.0.2.8": 101} {
		if got := s.status(t, from(addr)).StatusCode; got != want {
			t.Errorf("a client from %s is answered with %d, want %d", addr, got, want)
		}
	}
	first.Close()
	testkit.Until(t, "its place is free", func() bool { return s.status(t, from("2001:db8:0:1::9")).StatusCode == 101 })
}
