package web_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/socket"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web"
)

// slowConn reads a little at a time.
type slowConn struct {
	net.Conn
	pause *atomic.Int64 // before each 16 KiB
}

func (c slowConn) Read(b []byte) (int, error) {
	time.Sleep(time.Duration(c.pause.Load()))
	return c.Conn.Read(b[:min(len(b), 16<<10)])
}

// A client on a slow line takes many times the write timeout, and the time to
// answer a ping, to read one row; as long as it reads it is not cut off.
func TestASlowClientThatMakesProgressIsNotCutOff(t *testing.T) {
	row := bytes.Repeat([]byte("x"), 900<<10)
	for name, serve := range map[string]func(http.Handler) *httptest.Server{"plain": httptest.NewServer, "TLS": httptest.NewTLSServer} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, web.Config{
				WriteTimeout: 2 * time.Second, PingInterval: time.Second, PongWait: 3 * time.Second,
			}, func(context.Context, shared.EntityKey, string) ([][]byte, error) {
				return [][]byte{row}, nil
			})
			server := serve(s.handler)
			defer server.Close()
			var pause atomic.Int64
			dialer := websocket.Dialer{
				TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // the test server signs for itself
				NetDialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
					c, err := new(net.Dialer).DialContext(ctx, network, addr)
					if err != nil {
						return nil, err
					}
					// What the client's kernel takes in looks like read to the server.
					if err := c.(*net.TCPConn).SetReadBuffer(32 << 10); err != nil {
						return nil, err
					}
					return slowConn{c, &pause}, nil
				},
			}
			c := &conn{socket.DialWith(t, &dialer, server.URL, nil)}
			defer c.Close()
			pause.Store(int64(110 * time.Millisecond)) // 150 kB a second
			c.subscribe("100")
			s.untilSubscribed(t, 1)
			s.notify(t, "100")
			c.SetReadDeadline(time.Now().Add(time.Minute))
			if _, got, err := c.ReadMessage(); err != nil || len(got) != len(row) {
				t.Fatalf("read %d bytes, %v", len(got), err)
			}
		})
	}
}

// What waits for a client when the node closes is written before it is told.
func TestCloseWritesWhatWaitsFirst(t *testing.T) {
	row := bytes.Repeat([]byte("x"), 1<<20)
	s := start(t, web.Config{}, func(context.Context, shared.EntityKey, string) ([][]byte, error) { return [][]byte{row}, nil })
	c := s.dial(t)
	for _, id := range []string{"1", "2", "3"} {
		c.subscribe(id)
	}
	s.untilSubscribed(t, 3)
	for _, id := range []string{"1", "2", "3"} {
		s.notify(t, id)
	}
	testkit.Until(t, "all are fetched", func() bool { return s.bridge.Stats().Fetches == 3 && s.bridge.Stats().FetchesRunning == 0 })
	closed := make(chan error, 1)
	go func() { closed <- s.handler.Close(context.Background()) }()
	testkit.Until(t, "no more clients are let in", func() bool {
		ws, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(s.URL, "http"), nil)
		if err == nil {
			ws.Close()
		}
		return err != nil
	})
	for range 3 {
		c.Read()
	}
	c.WantClose(websocket.CloseServiceRestart)
	c.Close()
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// The application's code may hang; Close keeps to its time.
func TestCloseDoesNotWaitForEverForTheApplication(t *testing.T) {
	entered, release := make(chan bool), make(chan bool)
	s := start(t, web.Config{PassThrough: func(string, []byte) { entered <- true; <-release }}, echo)
	s.dial(t).Send("{}")
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if err := s.handler.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 5*time.Second {
		t.Errorf("Close returned %v after %v", err, time.Since(begin))
	}
	close(release)
}

// Rows without a key to conflate by wait in small number; then their sender does.
func TestRowsThroughFunctionsWaitInSmallNumber(t *testing.T) {
	rows := make(chan shared.ByteHandler, 1)
	m := http.NewServeMux()
	h := web.SetupMuxBridge(m, func(toWS shared.ByteHandler, _ func() string) (sub, unSub shared.EntityKeyHandler, dc chan bool) {
		rows <- toWS
		ignore := func(shared.EntityKey) {}
		return ignore, ignore, make(chan bool, 1)
	})
	server := httptest.NewServer(m)
	defer server.Close()
	ws, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(server.URL, "http")+web.DefaultPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	toWS := <-rows
	var sent atomic.Int64
	done := make(chan bool)
	row := bytes.Repeat([]byte("x"), 1<<20)
	const all = 200 // MiB: far more than the sockets hold
	go func() {
		defer close(done)
		for range all {
			toWS(row)
			sent.Add(1)
		}
	}()
	before := int64(-1)
	testkit.Until(t, "the sender waits", func() bool {
		now := sent.Load()
		stuck := now == before && now > 0
		before = now
		time.Sleep(100 * time.Millisecond)
		return stuck
	})
	if got := sent.Load(); got >= all {
		t.Errorf("%d rows were taken for a client that reads nothing", got)
	}
	ws.Close() // and nobody waits for a client that is gone
	<-done
	if err := h.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
