package main

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
)

// defaultAddrs are the addresses of the nodes unless others are chosen.
var defaultAddrs = [2]string{"127.0.0.1:8080", "127.0.0.1:8081"}

// listen listens on the address of each node, or on none.
func listen(addrs [2]string) (listeners []net.Listener, err error) {
	for i, addr := range addrs {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			for _, l := range listeners {
				l.Close()
			}
			return nil, listenError(i, addrs, err)
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

// listenError says why node i cannot listen. If its port is taken, it says with which flags
// both nodes can.
func listenError(i int, addrs [2]string, err error) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s cannot listen on %s: %w (choose another address with -node%d)", nodeName(i), addrs[i], err, i+1)
	}
	return fmt.Errorf(`%s cannot listen on %s: the port is taken; try make run FLAGS="%s"`, nodeName(i), addrs[i], freeFlags(addrs))
}

// freeFlags returns flags with which the board can listen: the chosen addresses, each with
// another port if its own is taken.
func freeFlags(addrs [2]string) string {
	var flags []string
	for i, addr := range addrs {
		near, l := listenNear(addr)
		if l != nil {
			defer l.Close() // not sooner, or both nodes may get the same port
		}
		if near != defaultAddrs[i] {
			flags = append(flags, fmt.Sprintf("-node%d %s", i+1, near))
		}
	}
	return strings.Join(flags, " ")
}

// listenNear listens on an address or, if its port is taken, on a greater port: 9080 for 8080.
// If all ports that it tries are taken, it returns port 0 and does not listen.
func listenNear(addr string) (string, net.Listener) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port == "0" {
		return addr, nil
	}
	number, err := net.LookupPort("tcp", port)
	if err != nil {
		return addr, nil
	}
	for _, more := range []int{0, 1000, 1010, 1020, 1030, 2000, 3000} {
		near := net.JoinHostPort(host, strconv.Itoa(number+more))
		if l, err := net.Listen("tcp", near); err == nil {
			return near, l
		}
	}
	return net.JoinHostPort(host, "0"), nil
}
