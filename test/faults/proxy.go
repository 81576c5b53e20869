package faults

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// proxy passes TCP connections on to a target, and can be late, deaf or rude.
type proxy struct {
	Addr   string
	target string

	listener net.Listener
	work     sync.WaitGroup

	mu      sync.Mutex
	random  *rand.Rand
	delay   time.Duration // of everything, each way
	jitter  time.Duration // at most, on top
	frozen  chan struct{} // closed when it thaws; nil where it is not frozen
	conns   map[net.Conn]struct{}
	stopped chan struct{}
}

// newProxy runs a proxy until the test ends.
func newProxy(t testing.TB, random *rand.Rand, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{
		Addr: l.Addr().String(), target: target, listener: l, random: fork(random),
		conns: make(map[net.Conn]struct{}), stopped: make(chan struct{}),
	}
	p.work.Go(p.accept)
	t.Cleanup(func() {
		close(p.stopped)
		l.Close()
		p.reset()
		p.work.Wait()
	})
	return p
}

// slow delays what passes from now on.
func (p *proxy) slow(delay, jitter time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay, p.jitter = delay, jitter
}

// freeze passes nothing on any more. Connections stay open, new ones too.
func (p *proxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = make(chan struct{})
}

// thaw ends freeze: what waits goes on.
func (p *proxy) thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.frozen)
	p.frozen = nil
}

// reset ends all connections with a reset (RST), at both ends, and returns how
// many there were.
func (p *proxy) reset() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
	n = len(p.conns) / 2
	clear(p.conns)
	return n
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.work.Go(func() { p.serve(client) })
	}
}

func (p *proxy) serve(client net.Conn) {
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		client.Close()
		return
	}
	if !p.add(client, server) {
		return
	}
	var ways sync.WaitGroup
	ways.Go(func() { p.pass(client, server) })
	ways.Go(func() { p.pass(server, client) })
	ways.Wait()
	p.forget(client, server)
}

func (p *proxy) add(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		select {
		case <-p.stopped:
			conn.Close()
		default:
			p.conns[conn] = struct{}{}
		}
	}
	return len(p.conns) > 0
}

func (p *proxy) forget(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		conn.Close()
		delete(p.conns, conn)
	}
}

// piece is what was read at once, and when it may go on.
type piece struct {
	data []byte
	due  time.Time
}

// pass passes on what comes from one end to the other, in order, until one of
// them ends; the other is then closed too.
func (p *proxy) pass(from, to net.Conn) {
	pieces := make(chan piece, 1024)
	var writer sync.WaitGroup
	writer.Go(func() {
		broken := false
		for piece := range pieces {
			if !broken && (!p.wait(piece.due) || !writeAll(to, piece.data)) {
				broken = true
				from.Close()
			}
		}
		to.Close()
	})
	for {
		buffer := make([]byte, 32<<10)
		n, err := from.Read(buffer)
		if n > 0 {
			pieces <- piece{buffer[:n], p.due()}
		}
		if err != nil {
			break
		}
	}
	close(pieces)
	writer.Wait()
}

func writeAll(to io.Writer, data []byte) bool {
	_, err := to.Write(data)
	return err == nil
}

func (p *proxy) due() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	late := p.delay
	if p.jitter > 0 {
		late += time.Duration(p.random.Int64N(int64(p.jitter)))
	}
	return time.Now().Add(late)
}

// wait returns at the given time, or later while the proxy is frozen; false when
// the proxy has ended.
func (p *proxy) wait(due time.Time) bool {
	select {
	case <-time.After(time.Until(due)):
	case <-p.stopped:
		return false
	}
	for {
		p.mu.Lock()
		frozen := p.frozen
		p.mu.Unlock()
		if frozen == nil {
			return true
		}
		select {
		case <-frozen:
		case <-p.stopped:
			return false
		}
	}
}
