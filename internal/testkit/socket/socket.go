// Package socket is a WebSocket client that a test plays: it says what the test has it
// say, word by word, and shows what comes. A test that wants a client which looks after
// itself has the Go client, package web/client.
package socket

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/wire"
)

// Conn is a client's connection. What fails on it fails the test, whose goroutine alone
// may call what takes no error.
type Conn struct {
	*websocket.Conn
	t testing.TB
}

// Dial connects a client until the test ends. Without a subprotocol it speaks the classic
// wire. The URL's scheme may be that of HTTP.
func Dial(t testing.TB, url string, subprotocols ...string) *Conn {
	t.Helper()
	return DialWith(t, &websocket.Dialer{Subprotocols: subprotocols}, url, nil)
}

// DialV2 is Dial for a client of the v2 wire.
func DialV2(t testing.TB, url string) *Conn {
	t.Helper()
	return Dial(t, url, wire.SubprotocolV2)
}

// DialWith is Dial over another network, or with headers.
func DialWith(t testing.TB, d *websocket.Dialer, url string, h http.Header) *Conn {
	t.Helper()
	if strings.HasPrefix(url, "http") {
		url = "ws" + strings.TrimPrefix(url, "http")
	}
	conn, response, err := d.DialContext(t.Context(), url, h)
	if response != nil {
		_ = response.Body.Close() // nothing, or what the connection has read of it
	}
	if err != nil {
		t.Fatalf("connecting to %s: %v", url, err)
	}
	return On(t, conn)
}

// On has a test play the client of a connection that it has made, and closes that when the
// test ends.
func On(t testing.TB, conn *websocket.Conn) *Conn {
	t.Cleanup(func() { conn.Close() })
	return &Conn{conn, t}
}

// Send says a text, formatted as fmt.Sprintf does.
func (c *Conn) Send(format string, args ...any) {
	c.t.Helper()
	if err := c.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, format, args...)); err != nil {
		c.t.Fatal(err)
	}
}

// Secret says who the client is.
func (c *Conn) Secret(secret string) {
	c.t.Helper()
	c.Send(`{"action":"secret","body":%q}`, secret)
}

// Subscribe subscribes to keys on the v2 wire, and does not wait for the answer.
func (c *Conn) Subscribe(keys ...shared.EntityKey) {
	c.t.Helper()
	texts := make([][]byte, len(keys))
	for i, key := range keys {
		texts[i] = wire.KeyText(wire.Key{EntityKey: key})
	}
	c.Send("%s", wire.KeysRequest(wire.ActionSubscribe, 1, texts))
}

// Read returns the next text.
func (c *Conn) Read() string {
	c.t.Helper()
	kind, message, err := c.next()
	if err != nil || kind != websocket.TextMessage {
		c.t.Fatalf("read a message of type %d, %v", kind, err)
	}
	return string(message)
}

func (c *Conn) next() (kind int, message []byte, err error) {
	if err := c.SetReadDeadline(time.Now().Add(testkit.Patience)); err != nil {
		return 0, nil, err
	}
	return c.ReadMessage()
}

// Want reads a text, which must be this one.
func (c *Conn) Want(text string) {
	c.t.Helper()
	if got := c.Read(); got != text {
		c.t.Fatalf("got %s, want %s", got, text)
	}
}

// Reply reads a reply of the v2 wire. It must be one as nodes write them, with nothing
// more in it.
func (c *Conn) Reply() wire.Reply {
	c.t.Helper()
	text := c.Read()
	r, ok := wire.ReadReply([]byte(text))
	if !ok {
		c.t.Fatalf("%s is no reply", text)
	}
	if again := (wire.V2{}).Append(nil, r); string(again) != text {
		c.t.Fatalf("got %s, which nodes write as %s", text, again)
	}
	return r
}

// WantReply reads a reply, whose Line must be this one, and returns it.
func (c *Conn) WantReply(line string) wire.Reply {
	c.t.Helper()
	r := c.Reply()
	if got := Line(r); got != line {
		c.t.Fatalf("got %q (%s), want %q", got, r.Message, line)
	}
	return r
}

// Until reads replies up to one that is as wanted, and returns it.
func (c *Conn) Until(what string, wanted func(wire.Reply) bool) wire.Reply {
	c.t.Helper()
	defer func() {
		if c.t.Failed() {
			c.t.Logf("while waiting for %s", what)
		}
	}()
	for {
		if r := c.Reply(); wanted(r) {
			return r
		}
	}
}

// UntilKey is Until for the next reply with an action that is about a key.
func (c *Conn) UntilKey(action wire.Action, key shared.EntityKey) wire.Reply {
	c.t.Helper()
	return c.Until(fmt.Sprintf("%s of %s", action, key.Hash()), func(r wire.Reply) bool { return r.Action == action && r.Key == key })
}

// CloseCode reads until the server ends the connection, and returns with which code.
func (c *Conn) CloseCode() int {
	c.t.Helper()
	for {
		_, _, err := c.next()
		if err == nil {
			continue
		}
		var closed *websocket.CloseError
		if !errors.As(err, &closed) {
			c.t.Errorf("the connection ended without a close frame: %v", err)
			return websocket.CloseAbnormalClosure
		}
		return closed.Code
	}
}

// WantClose reads until the server ends the connection, which must be with this code.
func (c *Conn) WantClose(code int) {
	c.t.Helper()
	if got := c.CloseCode(); got != code {
		c.t.Errorf("the connection was closed with %d, want %d", got, code)
	}
}

// Line is a reply in one line, without what differs from run to run: its action, ref, key or
// topic, code, index and rows, or the context of an event and its data, as far as it has them.
func Line(r wire.Reply) string {
	line := string(r.Action)
	for _, part := range []string{string(r.Ref), string(r.Key.Entity), r.Key.ID, string(r.Topic), string(r.Code)} {
		if part != "" {
			line += " " + part
		}
	}
	if r.Index != nil {
		line += fmt.Sprint(" #", *r.Index)
	}
	for _, row := range r.Rows {
		line += " " + string(row)
	}
	if r.Action == wire.ActionEvent {
		line += fmt.Sprint(" ", r.Context)
		if e, err := shared.ParseEvent(r.Event); err == nil && e.Data() != nil {
			line += " " + string(e.Data())
		}
	}
	if r.Missed > 0 {
		line += fmt.Sprint(" ", r.Missed)
	}
	return line
}
