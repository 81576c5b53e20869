package web_test

import (
	"crypto/tls"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/web"
)

func TestOverTLS(t *testing.T) {
	s := start(t, web.Config{}, echo)
	secure := httptest.NewTLSServer(s.handler)
	defer secure.Close()
	dialer := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // the test server signs for itself
	ws, _, err := dialer.Dial("wss"+strings.TrimPrefix(secure.URL, "https"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	c := &conn{ws, t}
	c.subscribe("100")
	s.untilSubscribed(t, 1)
	for range 3 {
		s.notify(t, "100")
		c.want(`{"id":"100","for":""}`)
	}
}
