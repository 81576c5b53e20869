package es_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/client"
)

// A node that closes is not ready at once, and for DrainDelay it takes clients and tells
// all of them of changes. Closing it again does not begin anew.
func TestANodeServesForTheDrainDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startPiped(t, es.Config{DrainDelay: 5 * time.Second})
		early := n.connect(t)
		closed := make(chan error, 2)
		go func() { closed <- n.Close(t.Context()) }()

		time.Sleep(4 * time.Second)
		if n.Ready() {
			t.Error("the node is ready while it closes")
		}
		late := n.connect(t)
		n.change(t)
		early.wantPush(t, 2)
		late.wantPush(t, 2)
		go func() { closed <- n.Close(t.Context()) }()
		time.Sleep(time.Second - time.Millisecond)
		synctest.Wait()
		if len(closed) > 0 || early.state() != client.Live || late.state() != client.Live {
			t.Errorf("before the delay is over the clients are %v and %v", early.state(), late.state())
		}

		// Clients that react are gone in no time.
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if len(closed) != 2 || early.state() == client.Live || late.state() == client.Live {
			t.Errorf("after the delay the clients are %v and %v, and %d of 2 calls of Close have returned", early.state(), late.state(), len(closed))
		}
		if err := errors.Join(<-closed, <-closed); err != nil {
			t.Error(err)
		}
	})
}

// What is left of the context's time goes to the clients and the handlers.
func TestTheDrainDelayTakesHalfOfTheTimeAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		n := startPiped(t, es.Config{DrainDelay: time.Minute, Logger: canary.Logger(&log, canary.Output(t))})
		c := n.connect(t)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		began := time.Now()
		if err := n.Close(ctx); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took < 5*time.Second || took > 6*time.Second {
			t.Errorf("closing took %v, want half of the 10 s", took)
		}
		synctest.Wait()
		if c.state() == client.Live {
			t.Error("the client is still there")
		}
		if !strings.Contains(log.String(), "DrainDelay is cut short") {
			t.Error("nothing is logged of it")
		}
	})
}

// Without a delay, and after one, there is nothing to cut short: not even where the
// context of Close has ended long before.
func TestWhatHasNoDrainDelayIsNotCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		n := startPiped(t, es.Config{Logger: canary.Logger(&log, canary.Output(t))})
		late, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		time.Sleep(time.Minute)
		_ = n.Close(late) // which may have had no time for anything
		time.Sleep(time.Minute)
		_ = n.Close(late)
		if err := n.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if strings.Contains(log.String(), "DrainDelay") {
			t.Errorf("the log says %s", log.String())
		}
	})
}

func TestTheDrainDelayEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startPiped(t, es.Config{DrainDelay: time.Minute})
		n.connect(t)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(3*time.Second, cancel)
		began := time.Now()
		if err := n.Close(ctx); err != nil && !errors.Is(err, context.Canceled) { // the client may have had no time to go
			t.Error(err)
		}
		if took := time.Since(began); took < 3*time.Second || took > 4*time.Second {
			t.Errorf("closing took %v, want the 3 s", took)
		}
	})
}

var item = shared.EntityKey{Entity: "items", ID: "1"}

// piped is a node whose clients come over pipes, which time in a bubble knows of.
type piped struct {
	*es.EntitySync
	pipes pipes
	rev   atomic.Int64
}

// startPiped starts a node that the test closes.
func startPiped(t *testing.T, c es.Config) *piped {
	t.Helper()
	if c.Logger == nil {
		c.Logger = canary.Logger(canary.Output(t))
	}
	s, err := es.New(c)
	if err != nil {
		t.Fatal(err)
	}
	n := &piped{EntitySync: s, pipes: pipes{come: make(chan net.Conn), closed: make(chan struct{})}}
	n.rev.Store(1)
	if err := es.Register(s, item.Entity, func(context.Context, shared.EntityKey, string) (int64, error) { return n.rev.Load(), nil }); err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: s, ReadHeaderTimeout: time.Second}
	served := make(chan error)
	go func() { served <- server.Serve(n.pipes) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-served // it was closed
	})
	return n
}

// watcher is a client that watches the item.
type watcher struct {
	*client.Client
	item *client.Subscription
}

// connect returns a client that has the row.
func (n *piped) connect(t *testing.T) watcher {
	t.Helper()
	c, err := client.Dial(t.Context(), "ws://node/", client.Options{Logger: canary.Logger(canary.Output(t)), Dialer: &websocket.Dialer{
		NetDialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return n.pipes.dial(ctx) },
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	w := watcher{c, c.Subscribe(item)}
	w.wantPush(t, n.rev.Load())
	return w
}

// wantPush waits for a revision.
func (w watcher) wantPush(t *testing.T, rev int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	for u := range w.item.Updates(ctx) {
		if got, err := client.Row[int64](u); err == nil && got == rev {
			return
		}
	}
	t.Errorf("revision %d does not come", rev)
}

func (n *piped) change(t *testing.T) {
	t.Helper()
	n.rev.Add(1)
	if err := n.Notify(t.Context(), item); err != nil {
		t.Fatal(err)
	}
}

func (w watcher) state() client.State {
	s, _ := w.Status()
	return s.State
}

// pipes is a network.
type pipes struct {
	come   chan net.Conn
	closed chan struct{}
}

func (p pipes) dial(ctx context.Context) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.come <- there:
		return here, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.come:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p pipes) Close() error {
	close(p.closed)
	return nil
}

// Addr implements net.Listener.
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }
