package test

import (
	"net"
	"sync"
	"testing"
)

// cable leads one node to an nsqd, and can be cut.
type cable struct {
	addr string

	mu     sync.Mutex
	healed *sync.Cond
	how    cut
	ends   map[net.Conn]bool
}

type cut int

const (
	whole  cut = iota
	closed     // connections end, and new ones do too
	frozen     // connections stay, and nothing comes through
)

// newCable returns a cable to the address.
func newCable(t *testing.T, to string) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{addr: l.Addr().String(), ends: make(map[net.Conn]bool)}
	c.healed = sync.NewCond(&c.mu)
	var carrying sync.WaitGroup
	carrying.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			carrying.Go(func() { c.carry(near, to) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		c.set(closed)
		carrying.Wait()
	})
	return c
}

// set cuts the cable, or heals it.
func (c *cable) set(how cut) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.how = how
	if how == closed {
		for end := range c.ends {
			end.Close()
		}
	}
	c.healed.Broadcast()
}

func (c *cable) carry(near net.Conn, to string) {
	defer near.Close()
	far, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer far.Close()
	if !c.add(near, far) {
		return
	}
	defer c.remove(near, far)
	var back sync.WaitGroup
	back.Go(func() { c.copy(near, far) })
	c.copy(far, near)
	back.Wait()
}

func (c *cable) add(ends ...net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, end := range ends {
		c.ends[end] = true
	}
	return c.how != closed
}

func (c *cable) remove(ends ...net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, end := range ends {
		delete(c.ends, end)
	}
}

// copy ends both ends when one has ended.
func (c *cable) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	for buffer := make([]byte, 32<<10); ; {
		n, err := from.Read(buffer)
		if err != nil || !c.passes() {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// passes waits while the cable is frozen, and reports whether it is whole again.
func (c *cable) passes() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.how == frozen {
		c.healed.Wait()
	}
	return c.how == whole
}
