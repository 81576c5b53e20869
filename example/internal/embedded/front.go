package embedded

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/internal/wait"
)

// front is a TCP listener that forwards each connection to a server, so that all of
// the server's connections can be ended before the server is asked to end.
type front struct {
	listener *net.TCPListener
	server   string

	ctx    context.Context // ended by close: dials under way are given up
	cancel context.CancelFunc
	work   sync.WaitGroup // forward's goroutine, and one for each connection

	mu     sync.Mutex // guards what follows
	closed bool
	conns  map[*forwarded]struct{}
}

// forwarded is one connection: the client's end, and the end at the server.
type forwarded struct{ client, server *net.TCPConn }

// listen returns a front that already listens. A client that connects waits for forward.
func listen(addr string) (*front, error) {
	l, err := net.Listen("tcp", addr) //nolint:noctx // at once
	if err != nil {
		return nil, err
	}
	f := &front{listener: l.(*net.TCPListener), conns: map[*forwarded]struct{}{}}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f, nil
}

func (f *front) addr() *net.TCPAddr { return f.listener.Addr().(*net.TCPAddr) }

// forward starts to forward connections to the server at an address.
func (f *front) forward(server string) {
	f.server = server
	f.work.Go(f.accept)
}

// acceptPause is how long the front waits after an error of accepting, such as too many open
// files.
const acceptPause = 50 * time.Millisecond

func (f *front) accept() {
	for f.ctx.Err() == nil {
		client, err := f.listener.AcceptTCP()
		if err == nil {
			f.work.Go(func() { f.serve(client) })
			continue
		}
		select {
		case <-f.ctx.Done():
		case <-time.After(acceptPause):
		}
	}
}

// serve forwards one connection until both sides have ended it.
func (f *front) serve(client *net.TCPConn) {
	defer client.Close()
	var d net.Dialer
	server, err := d.DialContext(f.ctx, "tcp", f.server)
	if err != nil {
		return // the client learns it from the end of its connection
	}
	defer server.Close()
	c := &forwarded{client, server.(*net.TCPConn)}
	if !f.add(c) {
		return
	}
	defer f.remove(c)
	var toServer sync.WaitGroup
	toServer.Go(c.toServer)
	c.toClient()
	toServer.Wait()
}

// toServer passes on the client's bytes, and the end of them.
func (c *forwarded) toServer() {
	_, _ = io.Copy(c.server, c.client) // an error is an end like any other
	_ = c.server.CloseWrite()
}

// toClient passes on the server's bytes, and the end of them. It returns when the server has
// ended, even if the client is gone before.
func (c *forwarded) toClient() {
	if _, err := io.Copy(c.client, c.server); err == nil {
		_ = c.client.CloseWrite()
		return
	}
	c.client.Close() // ends toServer, which tells the server
	_, _ = io.Copy(io.Discard, c.server)
}

func (f *front) add(c *forwarded) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.conns[c] = struct{}{}
	return true
}

func (f *front) remove(c *forwarded) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, c)
}

// close stops listening and ends all connections. It returns when the server has seen the end
// of each and closed it. If the server has not done so when ctx ends, close closes the
// server's ends as well, and returns an error. A connection of which nothing has been
// forwarded yet is closed, and not waited for.
func (f *front) close(ctx context.Context) error {
	f.listener.Close()
	f.cancel()
	conns := f.shut()
	for _, c := range conns {
		c.client.Close()
	}
	if err := wait.For(ctx, &f.work); err != nil {
		for _, c := range conns {
			c.server.Close()
		}
		f.work.Wait() // with both ends of each closed nothing holds them up
		return fmt.Errorf("waiting for the server to close its connections: %w", err)
	}
	return nil
}

// shut refuses further connections, and returns the present ones.
func (f *front) shut() (conns []*forwarded) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for c := range f.conns {
		conns = append(conns, c)
	}
	return conns
}
