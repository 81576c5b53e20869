package web_test

import (
	"crypto/tls"
	"net/http/httptest"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/internal/testkit/socket"
	"github.com/entity-sync/entity-sync/web"
)

func TestOverTLS(t *testing.T) {
	s := start(t, web.Config{}, echo)
	secure := httptest.NewTLSServer(s.handler)
	defer secure.Close()
	dialer := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // the test server signs for itself
	c := &conn{socket.DialWith(t, &dialer, secure.URL, nil)}
	defer c.Close()
	c.subscribe("100")
	s.untilSubscribed(t, 1)
	for range 3 {
		s.notify(t, "100")
		c.Want(`{"id":"100","for":""}`)
	}
}
