package websocket

import (
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// isParked reports whether there is no goroutine that reads, and if so whether there is a
// buffer to read with.
func (c *Conn) isParked() (parked, buffer bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.parked, c.parked && c.lent != nil
}

func (o *owner) untilParked(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		parked, buffer := o.isParked()
		switch {
		case buffer:
			t.Fatal("a client that says nothing has a buffer")
		case parked:
			return
		case time.Now().After(end):
			t.Fatal("a client that says nothing is not parked")
		}
	}
}

// maskedText is a client's frame, masked with zeros.
func maskedText(message string) []byte {
	const masked = 0x80
	return append([]byte{0x81, masked | byte(len(message)), 0, 0, 0, 0}, message...)
}

// Clients lend one another their buffers. One in the midst of a message keeps its own,
// with what it has said already.
func TestBuffersAreLentToWhoSaysSomething(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("each client has a goroutine, and a buffer")
	}
	slow, slowClient := connect(t, Config{})
	quick, quickClient := connect(t, Config{})
	for range 3 {
		slow.untilParked(t)
		quick.untilParked(t)
		frame := maskedText("of the slow one")
		write := func(part []byte) {
			t.Helper()
			if _, err := slowClient.NetConn().Write(part); err != nil {
				t.Fatal(err)
			}
		}
		write(frame[:9]) // a head, and the first letters
		for range 3 {
			quick.untilParked(t)
			if err := quickClient.WriteMessage(websocket.TextMessage, []byte("of the quick one")); err != nil {
				t.Fatal(err)
			}
			if got := next(t, quick.received, "a message"); got != "of the quick one" {
				t.Errorf("the quick one said %q", got)
			}
		}
		write(frame[9:])
		if got := next(t, slow.received, "a message"); got != "of the slow one" {
			t.Errorf("the slow one said %q", got)
		}
	}
	for o, client := range map[*owner]net.Conn{slow: slowClient.NetConn(), quick: quickClient.NetConn()} {
		client.Close()
		o.finish(t)
	}
}
