package proxies

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
	"github.com/entity-sync/entity-sync/web/client"
)

// The node knows a client's address behind each proxy, whatever the client says that it
// is; and a page of another origin, also of another port, is refused.
func TestAddressAndOrigin(t *testing.T) {
	nsqd := nsqdtest.Start(t)
	server := pgtest.Shared(t)
	for _, software := range []software{nginx, haproxy, caddy} {
		t.Run(software.name, func(t *testing.T) {
			t.Parallel()
			database := server.NewDatabase(t, "create table items (id text primary key, rev int)")
			var nodes [2]*node
			for i := range nodes {
				nodes[i] = startNode(t, nodeConfig{Name: fmt.Sprint(software.name, i), NSQ: nsqd.Addr, Database: database.URL()})
				nodes[i].untilReady(t)
			}
			p := software.start(t, nodes)
			const from = "127.0.0.2" // the proxy comes from 127.0.0.1
			for _, header := range []http.Header{
				{"Origin": {"https://" + p.host}},
				{"Origin": {"https://" + p.host}, "X-Forwarded-For": {"203.0.113.7"}},
				{"Origin": {"https://" + p.host}, "X-Forwarded-For": {"203.0.113.7, 127.0.0.1", "203.0.113.8"}},
			} {
				if addr, err := p.whoAmI(t, from, header); err != nil || addr != `"`+from+`"` {
					t.Errorf("with %v the client is %s to the node, %v, want %q", header, addr, err, from)
				}
			}
			name, _, _ := net.SplitHostPort(p.host)
			if _, err := p.whoAmI(t, from, http.Header{"Origin": {"https://" + name}}); !errors.Is(err, shared.ErrForbidden) {
				t.Errorf("a page of another port gets %v, want it refused", err)
			}
		})
	}
}

// whoAmI asks a node for the address of a client behind the proxy.
func (p *proxy) whoAmI(t *testing.T, from string, header http.Header) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	answer := make(chan string, 1)
	dialer := &tls.Dialer{Config: p.tls, NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}}
	c, err := client.Dial(ctx, "wss://"+p.host+"/ws/entity-sync/", client.Options{
		Logger: canary.Logger(canary.Output(t)), OnMessage: func(b []byte) { answer <- string(b) },
		Header: func(context.Context) (http.Header, error) { return header, nil },
		Dialer: &websocket.Dialer{NetDialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, addr)
		}},
	})
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.Send(ctx, []byte(`{"ask":"who am I?"}`)); err != nil {
		return "", err
	}
	select {
	case addr := <-answer:
		return addr, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}
