package freeport_test

import (
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/entity-sync/entity-sync/internal/freeport"
)

// Nobody is there, nobody gets the port by asking for any, and it can be listened at again.
func TestAddr(t *testing.T) {
	known := make(map[string]bool)
	for range 10 {
		addr, err := freeport.Addr()
		if err != nil {
			t.Fatal(err)
		}
		if known[addr] {
			t.Fatalf("%s was returned twice", addr)
		}
		known[addr] = true
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			t.Errorf("somebody is at %s", addr)
		}
	}
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		chosen, err := strconv.Atoi(strings.Fields(string(text))[0])
		if err != nil {
			t.Fatal(err)
		}
		for addr := range known {
			_, port, _ := net.SplitHostPort(addr)
			if n, err := strconv.Atoi(port); err != nil || n >= chosen {
				t.Errorf("the system may choose %s, from %d on", addr, chosen)
			}
		}
	}
}

// However many ports a process takes, there is another one, and none of the last thousands.
func TestThereIsAlwaysAnotherPort(t *testing.T) {
	last := make(map[int]int)
	for n := range 20_000 {
		port, err := freeport.Port()
		if err != nil {
			t.Fatal(err)
		}
		if before, known := last[port]; known && n-before < 4_000 {
			t.Fatalf("port %d was given again after %d others", port, n-before)
		}
		last[port] = n
	}
}
