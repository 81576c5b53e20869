package main

import (
	"fmt"
	"net"
	"os"
	"testing"
)

// The flags that are suggested leave out what needs none.
func TestFreeFlags(t *testing.T) {
	pid := os.Getpid()
	host := fmt.Sprintf("127.7.%d.%d", pid>>8&0xff, pid&0xff) // on which nothing else listens
	saved := defaultAddrs
	defer func() { defaultAddrs = saved }()
	defaultAddrs = [2]string{host + ":8080", host + ":8081"}
	var listeners []net.Listener
	for _, c := range []struct {
		taken, addrs [2]string
		want         string
	}{
		{[2]string{host + ":8080"}, defaultAddrs, "-node1 " + host + ":9080"},
		{[2]string{host + ":8081"}, defaultAddrs, "-node2 " + host + ":9081"},
		{defaultAddrs, defaultAddrs, "-node1 " + host + ":9080 -node2 " + host + ":9081"},
		{[2]string{host + ":9080", host + ":8080"}, defaultAddrs, "-node1 " + host + ":9090"},
		{[2]string{host + ":8080"}, [2]string{host + ":8080", host + ":0"}, "-node1 " + host + ":9080 -node2 " + host + ":0"},
		{[2]string{host + ":65535"}, [2]string{host + ":65535", host + ":8081"}, "-node1 " + host + ":0"},
	} {
		for _, addr := range c.taken {
			if addr == "" {
				continue
			}
			l, err := net.Listen("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			listeners = append(listeners, l)
		}
		if got := freeFlags(c.addrs); got != c.want {
			t.Errorf("with %v taken of %v: %q, want %q", c.taken, c.addrs, got, c.want)
		}
		for _, l := range listeners {
			l.Close()
		}
		listeners = nil
	}
}
