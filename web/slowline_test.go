package web_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/socket"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web"
)

// line is a connection over which so many bytes come in a tenth of a second, until it is
// cut.
type line struct {
	net.Conn
	bytes int
	cut   <-chan struct{}
}

func (l line) Read(b []byte) (int, error) {
	select {
	case <-l.cut:
		return 0, net.ErrClosed
	case <-time.After(100 * time.Millisecond):
		return l.Conn.Read(b[:min(len(b), l.bytes)])
	}
}

// A row of 400 kB comes over a line that takes 20 s for it. The node's kernel takes no
// more of it for longer than the write timeout, and a ping waits behind it for longer than
// the client may take to answer. But the client's system acknowledges what it gets. One
// that gets nothing more, in the midst of the row, is ended.
func TestALargeRowOverASlowLineArrives(t *testing.T) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("the system does not say what was acknowledged")
	}
	for name, serve := range map[string]func(http.Handler) *httptest.Server{"plain": httptest.NewServer, "TLS": httptest.NewTLSServer} {
		for end, c := range map[string]struct {
			bytes      int
			whole      bool
			unfinished bool // and the client says half a message
		}{
			"it arrives":                    {400 << 10, true, false},
			"what the kernel takes at once": {100 << 10, true, false},
			"the line is cut":               {400 << 10, false, false},
			"a message does not end":        {900 << 10, false, true},
		} {
			row := bytes.Repeat([]byte("x"), c.bytes)
			whole := c.whole
			t.Run(name+", "+end, func(t *testing.T) {
				t.Parallel()
				s := start(t, web.Config{
					WriteTimeout: 4 * time.Second, PingInterval: time.Second, PongWait: 3 * time.Second,
				}, func(context.Context, shared.EntityKey, string) ([][]byte, error) {
					return [][]byte{row}, nil
				})
				server := serve(s.handler)
				defer server.Close()
				cut := make(chan struct{})
				dialer := websocket.Dialer{
					TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // the test server signs for itself
					NetDialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
						d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error { // before the window is agreed on
							return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 8<<10) })
						}}
						c, err := d.DialContext(ctx, network, addr)
						return line{c, 2 << 10, cut}, err
					},
				}
				client := &conn{socket.DialWith(t, &dialer, server.URL, nil)}
				defer client.Close()
				client.subscribe("100")
				s.untilSubscribed(t, 1)
				s.notify(t, "100")
				if c.unfinished {
					if _, err := client.NetConn().Write([]byte{0x01, 0x81, 0, 0, 0, 0, '{'}); err != nil {
						t.Fatal(err)
					}
					if _, got, err := client.ReadMessage(); err == nil {
						t.Errorf("%d bytes arrive, and the client's message had no end all the while", len(got))
					}
					return
				}
				if !whole {
					time.AfterFunc(5*time.Second, func() { close(cut) })
					for err := error(nil); err == nil; {
						_, _, err = client.ReadMessage()
					}
					begin := time.Now()
					testkit.Until(t, "the client is given up", func() bool { return s.bridge.Stats().Clients == 0 })
					t.Log("given up after", time.Since(begin))
					return
				}
				client.SetReadDeadline(time.Now().Add(10 * time.Minute))
				if _, got, err := client.ReadMessage(); err != nil || len(got) != len(row) {
					t.Fatalf("read %d bytes, %v", len(got), err)
				}
			})
		}
	}
}
