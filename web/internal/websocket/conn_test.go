package websocket

import (
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/web/internal/socket"
	"github.com/entity-sync/entity-sync/web/internal/timers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// owner says back what it hears, and keeps what else it is told.
type owner struct {
	*Conn
	received, controls chan string
	asked              chan time.Time
	ended              chan error
}

func (o *owner) Receive(message []byte) { o.received <- string(message) }
func (o *owner) Control(answer []byte)  { o.controls <- string(answer) }

func (o *owner) Ask() {
	select {
	case o.asked <- time.Now():
	default: // nobody looks
	}
}

func (o *owner) Ended(err error) { o.ended <- err }

func (o *owner) write(t *testing.T, frame []byte) {
	t.Helper()
	if err := o.Write(net.Buffers{frame}, func() time.Time { return time.Time{} }); err != nil {
		t.Fatal(err)
	}
}

// next returns what comes next.
func next[V any](t *testing.T, from <-chan V, what string) (v V) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
	}
	return v
}

// connect returns the two ends of a connection.
func connect(t *testing.T, c Config) (*owner, *websocket.Conn) {
	t.Helper()
	pool, queue := socket.NewPoller(slog.New(slog.DiscardHandler)), new(timers.Queue)
	c.Poller, c.Timers = pool, queue
	c.MaxMessageBytes, c.WriteTimeout, c.CloseWait = 1<<10, patience, 100*time.Millisecond
	if c.PingInterval == 0 {
		c.PingInterval = time.Hour
	}
	if c.PongWait == 0 {
		c.PongWait = patience
	}
	upgrader := NewUpgrader(c, nil, func(http.ResponseWriter, *http.Request, int, error) { t.Error("the request is refused") })
	o := &owner{received: make(chan string, 8), controls: make(chan string, 8), asked: make(chan time.Time, 8), ended: make(chan error, 1)}
	begun := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(begun)
		conn, err := upgrader.Upgrade(w, r)
		if err != nil {
			t.Error(err)
			return
		}
		o.Conn = conn
		conn.Start(o)
	}))
	client, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(server.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	t.Cleanup(func() {
		client.Close()
		queue.Close()
		pool.Close()
		server.Close()
	})
	return o, client
}

// finish waits for the end of the connection, and lets go of it.
func (o *owner) finish(t *testing.T) (farewell []byte) {
	t.Helper()
	err := next(t, o.ended, "the end")
	farewell = o.Farewell(err)
	if farewell != nil {
		o.write(t, farewell)
	}
	o.End(err)
	return farewell
}

// readers counts the goroutines that read what clients say.
func readers() int {
	stacks := make([]byte, 1<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "web/internal/websocket.(*Conn).read(")
}

func untilNobodyReads(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(patience); readers() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a goroutine reads of a client that says nothing")
		}
	}
}

// What a client says comes to the owner, message by message, and a client that says
// nothing has no goroutine.
func TestMessagesComeToTheOwner(t *testing.T) {
	o, client := connect(t, Config{})
	for range 3 {
		if o.Immediate() && runtime.GOOS == "linux" {
			untilNobodyReads(t)
		}
		for _, message := range []string{"first", "second"} {
			if err := client.WriteMessage(websocket.TextMessage, []byte(message)); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range []string{"first", "second"} {
			if got := next(t, o.received, want); got != want {
				t.Errorf("received %q, want %q", got, want)
			}
		}
	}
	for ping, want := range map[bool]string{true: string(appendFrame(nil, websocket.PongMessage, []byte("x"))), false: ""} {
		kind := websocket.PongMessage
		if ping {
			kind = websocket.PingMessage
		}
		if err := client.WriteControl(kind, []byte("x"), time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if got := next(t, o.controls, "a ping or pong"); got != want {
			t.Errorf("a ping (%v) is answered with % x, want % x", ping, got, want)
		}
	}
	o.write(t, AppendText(nil, []byte("a row")))
	if _, got, err := client.ReadMessage(); err != nil || string(got) != "a row" {
		t.Errorf("the client reads %q, %v", got, err)
	}
	client.Close()
	o.finish(t)
}

// What ends a connection is answered with the code that fits. What gorilla says by itself
// is not written by itself: somebody may be in the midst of another frame.
func TestTheFarewellFitsTheEnd(t *testing.T) {
	for name, c := range map[string]struct {
		says []byte
		code int // 0 for no farewell
	}{
		"a close frame":          {[]byte{0x88, 0x82, 0, 0, 0, 0, 3, 232}, websocket.CloseNormalClosure},
		"a reserved bit":         {[]byte{0xc1, 0x80, 0, 0, 0, 0}, websocket.CloseProtocolError},
		"too long a message":     {[]byte{0x81, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}, websocket.CloseMessageTooBig},
		"no such length":         {[]byte{0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, websocket.CloseMessageTooBig},
		"a binary message":       {[]byte{0x82, 0x80, 0, 0, 0, 0}, websocket.CloseUnsupportedData},
		"a message not of UTF-8": {[]byte{0x81, 0x81, 0, 0, 0, 0, 0xff}, websocket.CloseInvalidFramePayloadData},
		"the end of the line":    {nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			o, client := connect(t, Config{})
			if _, err := client.NetConn().Write(c.says); err != nil {
				t.Fatal(err)
			}
			if c.code == 0 {
				client.Close()
			}
			err := next(t, o.ended, "the end")
			farewell := o.Farewell(err)
			if (farewell == nil) != (c.code == 0) {
				t.Fatalf("the farewell is % x", farewell)
			}
			if farewell != nil {
				o.write(t, AppendText(nil, []byte("a row"))) // which was on its way
				o.write(t, farewell)
				if _, message, err := client.ReadMessage(); err != nil || string(message) != "a row" {
					t.Errorf("read %q, %v", message, err)
				}
				if _, _, err := client.ReadMessage(); !websocket.IsCloseError(err, c.code) {
					t.Errorf("read %v, want %d", err, c.code)
				}
			}
			o.End(err)
		})
	}
}

// A client is asked at the interval, and one that does not answer counts as gone; so does
// one that was told to go and does not.
func TestASilentClientEnds(t *testing.T) {
	t.Run("one that does not answer", func(t *testing.T) {
		o, _ := connect(t, Config{PingInterval: 20 * time.Millisecond, PongWait: 100 * time.Millisecond})
		next(t, o.asked, "a ping")
		next(t, o.asked, "another ping")
		err := next(t, o.ended, "the end")
		if !IsTimeout(err) || Cause(err) != "nothing was heard of it for too long" {
			t.Errorf("it ends with %v: %q", err, Cause(err))
		}
		o.End(err)
	})
	t.Run("one that was told to go", func(t *testing.T) {
		o, _ := connect(t, Config{})
		o.write(t, o.Close(websocket.CloseServiceRestart, ""))
		o.Leave()
		if !o.IsLeaving() {
			t.Error("it is not leaving")
		}
		if err := next(t, o.ended, "the end"); !IsTimeout(err) {
			t.Errorf("it ends with %v", err)
		} else {
			o.End(err)
		}
	})
	t.Run("one that is cut off", func(t *testing.T) {
		o, _ := connect(t, Config{})
		o.CloseNow()
		o.finish(t)
	})
}

// An owner whose goroutine is ended in the midst of a message is told of the end.
func TestAnEndedGoroutineEndsTheConnection(t *testing.T) {
	o, client := connect(t, Config{})
	var exits exiting
	exits.owner = o
	o.mu.Lock()
	o.Conn.owner = exits
	o.mu.Unlock()
	if err := client.WriteMessage(websocket.TextMessage, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if got := Cause(next(t, o.ended, "the end")); got != errEnded.Error() {
		t.Errorf("it ends because %q", got)
	}
	o.End(errEnded)
}

// exiting ends the goroutine of whoever says something to it.
type exiting struct{ *owner }

func (exiting) Receive([]byte) { runtime.Goexit() }
