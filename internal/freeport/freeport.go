// Package freeport finds addresses on loopback for servers that a test starts, stops and
// starts again, and addresses at which nothing listens.
//
// A port that the system has chosen, and got back, may be chosen again: for another test's
// server, or for the near end of a connection. This package takes its ports from below those
// that a system chooses.
package freeport

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// The ports are above those of most services, and below the first that Linux chooses.
const (
	first = 20_000
	end   = 32_768
)

var (
	mu     sync.Mutex
	given  = make(map[int]bool) // by this process
	before map[int]bool         // given earlier, up to a third of the ports
)

// Addr returns an address of 127.0.0.1 at which nothing listens. A process gets an address
// again after some four thousand others at the earliest.
func Addr() (string, error) {
	port, err := Port()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), err
}

// Port returns the port of what Addr would return.
func Port() (int, error) {
	mu.Lock()
	defer mu.Unlock()
	if len(given) >= (end-first)/3 {
		before, given = given, make(map[int]bool)
	}
	for range end - first {
		port := first + rand.IntN(end-first) //nolint:gosec // a port is no secret
		if given[port] || before[port] {
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))) //nolint:noctx // at once
		if err != nil {
			continue // it is in use
		}
		given[port] = true
		return port, l.Close()
	}
	return 0, errors.New("no port is free on loopback")
}
