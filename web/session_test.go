package web

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	gorilla "github.com/gorilla/websocket"
	"golang.org/x/time/rate"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/internal/sendqueue"
	"github.com/entity-sync/entity-sync/web/internal/tokenbucket"
	"github.com/entity-sync/entity-sync/web/internal/websocket"
)

// bare is a Handler that has what sessions need, and takes no clients.
func bare(c Config) *Handler {
	h := &Handler{config: c.withDefaults(), logs: rate.NewLimiter(1, 1), wall: time.Now}
	h.rights = h.newRights()
	h.revocations = h.newRevocations()
	h.startTransports()
	return h
}

// recording is a transport that takes everything, and keeps it.
type recording struct {
	sendqueue.Transport
	*recorder
}

func (r recording) Write(frames net.Buffers, _ func() time.Time) error {
	for _, frame := range frames {
		if _, err := r.recorder.Write(frame); err != nil {
			return err
		}
	}
	return nil
}

func (r recording) Close(code int, reason string) []byte {
	return new(websocket.Conn).Close(code, reason)
}

// still is a session of v2 that writes to a recorder.
func still(c Config) (*session, *recorder) { return stillOn(onV2, c) }

func stillOn(e *encoder, c Config) (*session, *recorder) {
	h, to := bare(c), new(recorder)
	s := &session{handler: h, conn: new(websocket.Conn), encoder: e, messages: tokenbucket.New(1000), subscribes: tokenbucket.New(1000)}
	h.queues.Init(&s.out, sendqueue.Options[*bridge.Update]{Transport: recording{recorder: to}, Encoder: e, Owner: s})
	return s, to
}

// sink is a client's that keeps what it gets.
type sink chan *bridge.Update

func (s sink) Push(_ *bridge.Slot, u *bridge.Update) { s <- u }
func (s sink) Drop(*bridge.Slot) bool                { return false }

// updates has the engine make some, with rows of the given sizes.
func updates(t *testing.T, sizes ...int) (all []*bridge.Update) {
	t.Helper()
	b, err := bridge.New(bridge.Config{Bus: new(membus.Broker).NewNode()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close(context.Background())
	fetch := func(_ context.Context, k shared.EntityKey, _ string) ([][]byte, error) {
		n, err := strconv.Atoi(k.ID)
		return [][]byte{[]byte(strings.Repeat("x", n))}, err
	}
	if err := b.Register("items", fetch, bridge.EntityOptions{}); err != nil {
		t.Fatal(err)
	}
	got := make(sink, 1)
	c := b.NewClient(got, bridge.ClientOptions{})
	defer c.Close()
	for _, size := range sizes {
		if err := c.Subscribe(shared.EntityKey{Entity: "items", ID: strconv.Itoa(size)}, bridge.SubscribeOptions{Snapshot: true}); err != nil {
			t.Fatal(err)
		}
		u := <-got
		if u.Bytes() != size {
			t.Fatalf("an update of %d bytes says %d", size, u.Bytes())
		}
		all = append(all, u)
	}
	return all
}

// prompt is an engine that has its rows at once.
type prompt struct {
	engine
	s *session
	u *bridge.Update
}

func (p prompt) Subscribe(shared.EntityKey, bridge.SubscribeOptions) error {
	p.s.Push(new(bridge.Slot), p.u)
	return nil
}

func (p prompt) SetSecret(string) { p.s.Push(new(bridge.Slot), p.u) }

// The answer to a request is written before what the request brings, however
// quickly that is there.
func TestAnswersComeBeforeRows(t *testing.T) {
	u := updates(t, 1)[0]
	for _, request := range []string{`{"action":"secret","body":"` + canary.Mark + `me"}`, `{"action":"subscribe","body":{"entity":"items","id":"1"}}`} {
		for range 100 {
			s, conn := still(Config{})
			s.client = prompt{s: s, u: u}
			s.receive([]byte(request))
			s.out.End(nil)
			s.out.Wait()
			frames := payloads(t, conn.written)
			if len(frames) != 2 || string(frames[0]) != `{"action":"ack"}` {
				t.Fatalf("%s is answered with %q", request, frames)
			}
		}
	}
}

// Whoever cannot be connected, or comes too late, gives its place back.
func TestPlacesAreGivenBack(t *testing.T) {
	for name, connect := range map[string]func(*Handler) func(*session) client{
		"the builder panics": func(*Handler) func(*session) client { return func(*session) client { panic("no") } },
		"the handler closes": func(h *Handler) func(*session) client {
			return func(*session) client { h.close(); return engine{} }
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := newHandler(Config{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			h.connect = connect(h)
			server := httptest.NewServer(h)
			defer server.Close()
			defer func() {
				if err := h.Close(context.Background()); err != nil {
					t.Error(err)
				}
			}()
			c, resp, err := gorilla.DefaultDialer.Dial("ws"+strings.TrimPrefix(server.URL, "http"), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if resp.StatusCode != http.StatusSwitchingProtocols {
				t.Fatalf("answered with %d", resp.StatusCode)
			}
			if _, _, err := c.ReadMessage(); err == nil {
				t.Error("it is served")
			}
			taken := func() int {
				h.admission.mu.Lock()
				defer h.admission.mu.Unlock()
				return h.admission.total
			}
			for end := time.Now().Add(30 * time.Second); taken() != 0; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%d places are taken by nobody", taken())
				}
			}
		})
	}
}

// A client builder may send something at once. Close waits for that, and sends the client
// away after it.
func TestCloseWaitsForWhoIsJustComing(t *testing.T) {
	h, err := newHandler(Config{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan error)
	h.connect = func(s *session) client {
		go func() { closed <- h.Close(context.Background()) }()
		testkit.Until(t, "the handler closes", h.isClosed)
		select {
		case err := <-closed:
			t.Errorf("Close does not wait: %v", err)
			go func() { closed <- nil }()
		case <-time.After(50 * time.Millisecond):
		}
		s.out.Send(websocket.AppendText(nil, []byte("welcome")), 1)
		return engine{}
	}
	server := httptest.NewServer(h)
	defer server.Close()
	c, _, err := gorilla.DefaultDialer.Dial("ws"+strings.TrimPrefix(server.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, message, err := c.ReadMessage(); err != nil || string(message) != "welcome" {
		t.Errorf("the client reads %q, %v", message, err)
	}
	if _, _, err := c.ReadMessage(); !gorilla.IsCloseError(err, gorilla.CloseServiceRestart) {
		t.Errorf("the client reads %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if left := h.all(); len(left) > 0 {
		t.Errorf("%d sessions are left", len(left))
	}
}

// halfway is an engine in which one subscription has a row of the new secret while
// another has not moved yet.
type halfway struct {
	engine
	s         *session
	u         *bridge.Update
	takenBack *bool
}

func (h halfway) SetSecret(string) {
	var moved, waiting bridge.Slot
	h.s.Push(&waiting, h.u)
	h.s.Push(&moved, h.u)
	time.Sleep(20 * time.Millisecond) // long enough to be written
	*h.takenBack = h.s.Drop(&waiting)
}

// No row of the old secret is written after one of the new one, on either wire.
func TestNothingIsWrittenWhileTheSecretChanges(t *testing.T) {
	u := updates(t, 1)[0]
	for name, encoder := range map[string]*encoder{"classic": onClassic, "v2": onV2} {
		s, _ := stillOn(encoder, Config{})
		takenBack := false
		s.client = halfway{s: s, u: u, takenBack: &takenBack}
		s.receive([]byte(`{"action":"secret","body":"` + canary.Mark + `me"}`))
		s.out.End(nil)
		s.out.Wait()
		if !takenBack {
			t.Errorf("%s: a row was written while the secret changed", name)
		}
	}
}
