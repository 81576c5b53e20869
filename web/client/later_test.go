package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/web/client"
	"github.com/entity-sync/entity-sync/web/wire"
)

// pipes is a network without a machine: what is dialled is accepted here.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// servePipes serves one within a bubble of synctest, and returns what dials it.
func servePipes(t *testing.T, serve func(*websocket.Conn)) *websocket.Dialer {
	t.Helper()
	p := pipes{make(chan net.Conn), make(chan struct{})}
	upgrader := websocket.Upgrader{Subprotocols: []string{wire.SubprotocolV2}}
	var work sync.WaitGroup
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if conn, err := upgrader.Upgrade(w, r, nil); err == nil {
			defer conn.Close()
			serve(conn)
		}
	})}
	work.Go(func() { _ = server.Serve(p) })
	t.Cleanup(func() {
		close(p.closed)
		server.Close()
		work.Wait()
	})
	return &websocket.Dialer{NetDialContext: p.dial}
}

// asking is a request for keys, and when it came.
type asking struct {
	ids []string
	at  time.Time
}

// serveUnavailable answers that keys are not to be had now, and tells what it is asked.
func serveUnavailable(asked chan<- asking) func(*websocket.Conn) {
	return func(conn *websocket.Conn) {
		for {
			_, message, err := conn.ReadMessage()
			if err != nil {
				return
			}
			var request struct {
				Action string
				Ref    int
				Body   []struct{ ID string }
			}
			if err := json.Unmarshal(message, &request); err != nil || request.Action != "subscribe" {
				continue
			}
			now := asking{at: time.Now()}
			for _, k := range request.Body {
				now.ids = append(now.ids, k.ID)
				refusal := fmt.Sprintf(`{"action":"error","ref":%d,"body":{"entity":"items","id":%q,"code":"unavailable","message":""}}`, request.Ref, k.ID)
				if err := conn.WriteMessage(websocket.TextMessage, []byte(refusal)); err != nil {
					return
				}
			}
			if err := conn.WriteMessage(websocket.TextMessage, []byte(ack(request.Ref))); err != nil {
				return
			}
			asked <- now
		}
	}
}

// How long a key waits that is unavailable is its own affair: the first wait is less
// than a second, however often another was refused.
func TestWhatIsUnavailableWaitsByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := make(chan asking)
		dialer := servePipes(t, serveUnavailable(asked))
		c, err := client.New("ws://pipe", client.Options{Dialer: dialer, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		defer c.Subscribe(key("old")).Close()
		for range 12 { // from then on it waits for up to half a minute
			<-asked
		}
		for i := range 20 {
			id := fmt.Sprint("new ", i)
			sub := c.Subscribe(key(id))
			var first time.Time
			for again := false; !again; {
				a := <-asked
				for _, got := range a.ids {
					switch {
					case got != id:
					case first.IsZero():
						first = a.at
					default:
						again = true
						if wait := a.at.Sub(first); wait > time.Second {
							t.Errorf("%s was asked for again after %v", id, wait)
						}
					}
				}
			}
			sub.Close()
		}
		go func() { // until the client is closed
			for range asked {
			}
		}()
		c.Close()
		t.Cleanup(func() { close(asked) })
	})
}

// What is refused together is asked for together.
func TestWhatIsUnavailableIsAskedForInOneMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const keys = 300
		asked := make(chan asking, 10*keys)
		dialer := servePipes(t, serveUnavailable(asked))
		c, err := client.New("ws://pipe", client.Options{Dialer: dialer, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for i := range keys {
			c.Subscribe(key(fmt.Sprint(i)))
		}
		for n, had := 0, 0; n < 5; n++ {
			for had = 0; had < keys; {
				a := <-asked
				had += len(a.ids)
				if len(a.ids) < keys && n > 0 {
					t.Errorf("time %d: a message asked for %d of them", n+1, len(a.ids))
				}
			}
		}
	})
}

// Dial ends with its context, to the instant: also where the server has taken the
// connection and says nothing, and where the application's own function goes on.
func TestDialEndsWithItsContext(t *testing.T) {
	t.Parallel()
	mute := func(*websocket.Conn) { time.Sleep(time.Minute) }
	for name, options := range map[string]client.Options{
		"a server that says nothing": {Secret: canary},
		"SecretFunc": {SecretFunc: func(context.Context) (string, error) {
			time.Sleep(time.Minute)
			return "", nil
		}},
		"Header": {Header: func(context.Context) (http.Header, error) {
			time.Sleep(time.Minute)
			return nil, nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				options.Dialer, options.Logger = servePipes(t, mute), slog.New(slog.DiscardHandler)
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancel()
				begin := time.Now()
				if _, err := client.Dial(ctx, "ws://pipe", options); err == nil || ctx.Err() == nil {
					t.Errorf("Dial returned %v", err)
				}
				if took := time.Since(begin); took != 50*time.Millisecond {
					t.Errorf("Dial took %v", took)
				}
				time.Sleep(2 * time.Minute) // until the application's function is done
			})
		})
	}
}
