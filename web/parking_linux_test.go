package web

import (
	"context"
	"net"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/web/wire"
)

// listener is a client that reads, and answers pings, until it is closed.
type listener struct {
	*websocket.Conn
	pings atomic.Int32
	said  chan string
	ended chan struct{}
}

// listen connects a client to a handler whose sessions say back what they are told.
func listen(t *testing.T, url string) *listener {
	t.Helper()
	ws, _, err := websocket.DefaultDialer.Dial(url, nil)
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{Conn: ws, said: make(chan string, 16), ended: make(chan struct{})}
	answer := ws.PingHandler()
	ws.SetPingHandler(func(data string) error {
		l.pings.Add(1)
		return answer(data)
	})
	go func() {
		defer close(l.ended)
		for {
			_, message, err := ws.ReadMessage()
			if err != nil {
				return
			}
			l.said <- string(message)
		}
	}()
	t.Cleanup(func() {
		ws.Close()
		<-l.ended
	})
	return l
}

func (l *listener) wantEcho(t *testing.T, message string) {
	t.Helper()
	if err := l.WriteMessage(websocket.TextMessage, []byte(message)); err != nil {
		t.Fatal(err)
	}
	l.wantSaid(t, message)
}

func (l *listener) wantSaid(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-l.said:
		if got != want {
			t.Fatalf("the session says %q, want %q", got, want)
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("the session does not say %q", want)
	}
}

func echoing(t *testing.T, c Config) (*Handler, string) {
	t.Helper()
	c.Logger = canary.Logger(canary.Watch(t))
	c.OnMessage = func(s Session, message []byte) { _ = s.Send(message) }
	h, err := newHandler(c, func(*session) client { return engine{} })
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(h)
	t.Cleanup(func() {
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
		server.Close()
	})
	return h, "ws" + strings.TrimPrefix(server.URL, "http")
}

// readers counts the goroutines that read what clients say.
func readers() int {
	stacks := make([]byte, 1<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "web/internal/websocket.(*Conn).read(")
}

// A client that says nothing, or only that it is there, has no goroutine.
func TestAnIdleClientHasNoGoroutine(t *testing.T) {
	_, url := echoing(t, Config{PingInterval: 50 * time.Millisecond})
	var clients []*listener
	for range 20 {
		clients = append(clients, listen(t, url))
	}
	for _, l := range clients {
		testkit.Until(t, "it was asked whether it is there", func() bool { return l.pings.Load() > 2 })
	}
	testkit.Until(t, "nobody reads", func() bool { return readers() == 0 })
	for _, l := range clients {
		l.wantEcho(t, `"once"`)
		l.wantEcho(t, `"and again"`)
	}
	testkit.Until(t, "nobody reads", func() bool { return readers() == 0 })
}

// In the midst of a message it has one.
func TestAMessageInPartsIsWaitedFor(t *testing.T) {
	_, url := echoing(t, Config{PingInterval: time.Hour}) // a pong would come between the parts
	l := listen(t, url)
	message := []byte{0x81, 0x84, 0, 0, 0, 0, '"', 'x', 'y', '"'}
	for range 3 {
		if _, err := l.NetConn().Write(message[:7]); err != nil {
			t.Fatal(err)
		}
		testkit.Until(t, "one reads", func() bool { return readers() == 1 })
		if _, err := l.NetConn().Write(message[7:]); err != nil {
			t.Fatal(err)
		}
		l.wantSaid(t, `"xy"`)
		testkit.Until(t, "nobody reads", func() bool { return readers() == 0 })
	}
}

// What has come together with something else does not wait for more to come.
func TestNothingThatWasReadIsLeftBehind(t *testing.T) {
	_, url := echoing(t, Config{PingInterval: time.Hour})
	l := listen(t, url)
	ping, one := []byte{0x89, 0x81, 0, 0, 0, 0, '!'}, []byte{0x81, 0x81, 0, 0, 0, 0, '1'}
	pong, two := []byte{0x8a, 0x80, 0, 0, 0, 0}, []byte{0x81, 0x81, 0, 0, 0, 0, '2'}
	for range 10 {
		if _, err := l.NetConn().Write(slices.Concat(ping, one, pong, two)); err != nil {
			t.Fatal(err)
		}
		l.wantSaid(t, "1")
		l.wantSaid(t, "2")
	}
}

// Nobody reads of a client that is silent for too long, or told to go: somebody has
// to notice all the same.
func TestAParkedSessionEnds(t *testing.T) {
	for name, c := range map[string]struct {
		ping time.Duration
		end  func(*session, net.Conn)
	}{
		"where the client hangs up":              {time.Hour, func(_ *session, c net.Conn) { c.Close() }},
		"where it is cut off":                    {time.Hour, func(s *session, _ net.Conn) { s.conn.CloseNow() }},
		"where it is told to go, and does not":   {time.Hour, func(s *session, _ net.Conn) { s.closeGracefully(wire.CloseExpired, "") }},
		"where it does not say that it is there": {2 * time.Second, func(*session, net.Conn) {}},
	} {
		t.Run(name, func(t *testing.T) {
			h, url := echoing(t, Config{PingInterval: c.ping, PongWait: 200 * time.Millisecond})
			ws, _, err := websocket.DefaultDialer.Dial(url, nil) // it does not read
			if err != nil {
				t.Fatal(err)
			}
			defer ws.Close()
			var s *session
			testkit.Until(t, "it is there", func() bool {
				for _, s = range h.all() {
				}
				return s != nil
			})
			testkit.Until(t, "it is parked", func() bool { return h.poller.Waiting() == 1 && readers() == 0 })
			c.end(s, ws.NetConn())
			testkit.Until(t, "it has ended", func() bool { return len(h.all()) == 0 })
			if n := h.poller.Waiting(); n > 0 {
				t.Errorf("%d sessions are kept", n)
			}
		})
	}
}

// Where the kernel gives no epoll, each session keeps a goroutine, and all works.
func TestWithoutParking(t *testing.T) {
	h, url := echoing(t, Config{PingInterval: 50 * time.Millisecond})
	h.poller.Close()
	l := listen(t, url)
	l.wantEcho(t, `"once"`)
	testkit.Until(t, "it was asked whether it is there", func() bool { return l.pings.Load() > 2 })
	l.wantEcho(t, `"and again"`)
	if n := readers(); n != 1 {
		t.Errorf("%d goroutines read", n)
	}
}

// Many are woken, park again and go all at the same time, and their sockets' numbers
// are used again.
func TestParkingUnderChurn(t *testing.T) {
	h, url := echoing(t, Config{PingInterval: 10 * time.Millisecond})
	var work sync.WaitGroup
	for range 16 {
		work.Go(func() {
			for range 30 {
				ws, _, err := websocket.DefaultDialer.Dial(url, nil)
				if err != nil {
					t.Error(err)
					return
				}
				for _, message := range []string{`1`, `"two"`} {
					if err := ws.WriteMessage(websocket.TextMessage, []byte(message)); err != nil {
						t.Error(err)
					}
					if err := ws.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
						t.Error(err)
					}
					if _, got, err := ws.ReadMessage(); err != nil || string(got) != message {
						t.Errorf("the session says %q, %v", got, err)
					}
				}
				ws.Close()
			}
		})
	}
	work.Wait()
	testkit.Until(t, "all are gone", func() bool { return len(h.all()) == 0 && readers() == 0 })
}
