package clienttest

import (
	"net"
	"sync"
	"time"
)

// Front is what clients connect to: it passes TCP connections on to the nodes in
// turn, as a load balancer does, and can fail as a network does.
type Front struct {
	listener net.Listener
	work     sync.WaitGroup

	mu      sync.Mutex
	thaw    *sync.Cond // of mu
	targets []string
	next    int
	conns   map[net.Conn]bool // true once nothing passes through it, and neither end is told
	frozen  bool              // nothing passes through any of them
	closed  bool              // new connections are reset
	ended   bool
	delay   time.Duration // of what the nodes say
	taken   int
}

func newFront(addr string) (*Front, error) {
	l, err := net.Listen("tcp", addr) //nolint:noctx // at once
	if err != nil {
		return nil, err
	}
	f := &Front{listener: l, conns: make(map[net.Conn]bool)}
	f.thaw = sync.NewCond(&f.mu)
	f.work.Go(f.accept)
	return f, nil
}

// Addr returns where clients connect.
func (f *Front) Addr() string { return f.listener.Addr().String() }

// Taken returns how many connections there have been.
func (f *Front) Taken() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.taken
}

func (f *Front) change(how func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	how()
	f.thaw.Broadcast()
}

// Cut ends all connections with a reset.
func (f *Front) Cut() {
	f.change(func() {
		for conn := range f.conns {
			f.conns[conn] = false
			hangUp(conn)
		}
	})
}

// Abandon passes nothing on any more through the present connections, which stay open, as
// when a machine has slept or moved to another network.
func (f *Front) Abandon() {
	f.change(func() {
		for conn := range f.conns {
			f.conns[conn] = true
		}
	})
}

// Freeze passes nothing on, or ends that. Connections stay open, and new ones are taken.
func (f *Front) Freeze(on bool) { f.change(func() { f.frozen = on }) }

// Shut resets new connections, or ends that.
func (f *Front) Shut(on bool) { f.change(func() { f.closed = on }) }

// Slow delays the nodes' answers from now on.
func (f *Front) Slow(delay time.Duration) { f.change(func() { f.delay = delay }) }

func (f *Front) add(target string) { f.change(func() { f.targets = append(f.targets, target) }) }

func (f *Front) remove(target string) {
	f.change(func() {
		for i, t := range f.targets {
			if t == target {
				f.targets = append(f.targets[:i:i], f.targets[i+1:]...)
				return
			}
		}
	})
}

// Close ends everything.
func (f *Front) Close() {
	f.listener.Close()
	f.change(func() { f.ended, f.frozen = true, false })
	f.Cut()
	f.work.Wait()
}

func hangUp(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	conn.Close()
}

func (f *Front) accept() {
	for {
		conn, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.work.Go(func() { f.serve(conn) })
	}
}

// serve passes on a client's bytes, and the node's.
func (f *Front) serve(client net.Conn) {
	node := f.dial()
	if node == nil || !f.keep(client, node) {
		hangUp(client)
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		f.pass(node, client, true)
		client.Close()
	})
	f.pass(client, node, false)
	node.Close()
	back.Wait()
	f.change(func() {
		delete(f.conns, client)
		delete(f.conns, node)
	})
}

// dial connects to the next node, nil where there is none.
func (f *Front) dial() net.Conn {
	f.mu.Lock()
	if f.closed || f.ended || len(f.targets) == 0 {
		f.mu.Unlock()
		return nil
	}
	target := f.targets[f.next%len(f.targets)]
	f.next++
	f.mu.Unlock()
	conn, err := net.Dial("tcp", target) //nolint:noctx // at once
	if err != nil {
		return nil
	}
	return conn
}

func (f *Front) keep(client, node net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		node.Close()
		return false
	}
	f.taken++
	f.conns[client], f.conns[node] = false, false
	return true
}

func (f *Front) pass(from, to net.Conn, late bool) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			time.Sleep(f.wait(from, late))
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// wait returns when something may pass, with how late it is to be.
func (f *Front) wait(from net.Conn, late bool) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.frozen || f.conns[from] {
		f.thaw.Wait()
	}
	if !late {
		return 0
	}
	return f.delay
}
