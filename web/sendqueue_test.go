package web

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/time/rate"
	"pgregory.net/rapid"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/shared"
)

// still is a session that writes to a recorder.
func still(c Config) (*session, *recorder) {
	h := &Handler{config: c.withDefaults(), logs: rate.NewLimiter(1, 1)}
	h.flusher = newFlusher()
	conn := &recorder{}
	s := &session{handler: h, encoder: onV2, messages: newTokenBucket(1000), subscribes: newTokenBucket(1000), endOfMessage: midMessage}
	s.out = newSendQueue(conn, s)
	return s, conn
}

// midMessage is for a session without a client to read from: in the midst of a message
// nothing is set on that connection, however long a write takes on a busy machine.
var midMessage = time.Now().Add(time.Hour)

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

// Whatever is put, replaced and taken back: what is counted is what waits.
func TestASendQueueCountsWhatWaits(t *testing.T) {
	all := updates(t, 0, 1, 10, 100)
	rapid.Check(t, func(t *rapid.T) {
		s, _ := still(Config{})
		var slots [3]bridge.Slot
		waiting := map[int]int{}
		s.out.hold()
		pick := func(t *rapid.T) int { return rapid.IntRange(0, len(slots)-1).Draw(t, "slot") }
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				i, u := pick(t), rapid.SampledFrom(all).Draw(t, "update")
				s.out.Push(&slots[i], u)
				waiting[i] = u.Bytes()
			},
			"drop": func(t *rapid.T) {
				i := pick(t)
				if _, waits := waiting[i]; s.out.Drop(&slots[i]) != waits {
					t.Fatalf("dropping says %v", !waits)
				}
				delete(waiting, i)
			},
			"write": func(*rapid.T) {
				s.out.release()
				s.out.wait()
				s.out.hold()
				clear(waiting)
			},
			"": func(t *rapid.T) {
				want := 0
				for _, n := range waiting {
					want += n
				}
				s.out.mu.Lock()
				got := s.out.bytes
				s.out.mu.Unlock()
				if got != want {
					t.Fatalf("%d bytes are counted, %d wait", got, want)
				}
			},
		})
	})
}

// What changes back before it can be said is not said.
func TestFreshAndStaleBeforeItIsSaidIsNothing(t *testing.T) {
	s, conn := still(Config{})
	s.out.hold()
	for range 3 {
		s.out.AddStale(1)
		s.out.AddStale(-1)
	}
	s.out.release()
	s.out.wait()
	if len(conn.written) != 0 {
		t.Errorf("said %q", conn.written)
	}
	var slot bridge.Slot
	s.out.hold()
	s.out.AddStale(1)
	s.out.release()
	s.out.wait()
	s.out.hold()
	s.out.Push(&slot, updates(t, 1)[0])
	s.out.AddStale(-1)
	s.out.release()
	s.out.wait()
	var said []string
	for _, frame := range payloads(t, conn.written) {
		action, _, _ := strings.Cut(strings.TrimPrefix(string(frame), `{"action":"`), `"`)
		said = append(said, action)
	}
	if got := strings.Join(said, " "); got != "stale update fresh" {
		t.Errorf("said %q, want the update before it is fresh", got)
	}
}

// prompt is an engine that has its rows at once.
type prompt struct {
	engine
	s *session
	u *bridge.Update
}

func (p prompt) Subscribe(shared.EntityKey, bridge.SubscribeOptions) error {
	p.s.out.Push(new(bridge.Slot), p.u)
	return nil
}

func (p prompt) SetSecret(string) { p.s.out.Push(new(bridge.Slot), p.u) }

// The answer to a request is written before what the request brings, however
// quickly that is there.
func TestAnswersComeBeforeRows(t *testing.T) {
	u := updates(t, 1)[0]
	for _, request := range []string{`{"action":"secret","body":"` + canary.Mark + `me"}`, `{"action":"subscribe","body":{"entity":"items","id":"1"}}`} {
		for range 100 {
			s, conn := still(Config{})
			s.client = prompt{s: s, u: u}
			s.receive([]byte(request))
			s.out.end(nil)
			s.out.wait()
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
			c, resp, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(server.URL, "http"), nil)
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
		until(t, "the handler closes", h.isClosed)
		select {
		case err := <-closed:
			t.Errorf("Close does not wait: %v", err)
			go func() { closed <- nil }()
		case <-time.After(50 * time.Millisecond):
		}
		s.out.sendDirect(appendFrame(nil, websocket.TextMessage, []byte("welcome")))
		return engine{}
	}
	server := httptest.NewServer(h)
	defer server.Close()
	c, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(server.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, message, err := c.ReadMessage(); err != nil || string(message) != "welcome" {
		t.Errorf("the client reads %q, %v", message, err)
	}
	if _, _, err := c.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseServiceRestart) {
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
	h.s.out.Push(&waiting, h.u)
	h.s.out.Push(&moved, h.u)
	time.Sleep(20 * time.Millisecond) // long enough to be written
	*h.takenBack = h.s.out.Drop(&waiting)
}

// What is held when the session ends is not written: it may be of a secret that has
// expired, or of one that is just being changed.
func TestWhatIsHeldIsNotWrittenAtTheEnd(t *testing.T) {
	u, farewell := updates(t, 1)[0], closeFrame(websocket.CloseServiceRestart, "")
	for name, do := range map[string]func(o *sendQueue, slot *bridge.Slot, flush func()){
		"released before anything is written": func(o *sendQueue, slot *bridge.Slot, flush func()) {
			o.hold()
			o.Push(slot, u)
			o.end(farewell)
			o.release()
			flush()
		},
		"released after all is written": func(o *sendQueue, slot *bridge.Slot, flush func()) {
			o.hold()
			o.Push(slot, u)
			o.end(farewell)
			flush()
			o.release()
		},
		"held after the end": func(o *sendQueue, slot *bridge.Slot, flush func()) {
			o.Push(slot, u)
			o.end(farewell)
			o.hold()
			flush()
			o.release()
		},
	} {
		h := &Handler{config: Config{}.withDefaults(), flusher: newFlusher()}
		h.flusher.most = 0 // it does nothing by itself
		s, client := overSocket(t, h)
		var slot bridge.Slot
		flush := func() {
			for a := newAttempt(); s.out.writing; {
				s.out.flush(a)
			}
		}
		do(s.out, &slot, flush)
		flush()
		if s.out.bytes != 0 || s.out.Drop(&slot) {
			t.Errorf("%s: the update still waits", name)
		}
		s.out.conn.Close()
		if got, err := io.ReadAll(client); err != nil || !bytes.Equal(got, farewell) {
			t.Errorf("%s: it writes % x, %v", name, got, err)
		}
	}
}

// Once a client cannot be written to it is not tried again, though something was held.
func TestNothingIsWrittenAfterAFailure(t *testing.T) {
	h, err := newHandler(Config{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	h.flusher.most = 0 // it does nothing by itself
	u := updates(t, 1)[0]
	h.connect = func(s *session) client {
		tries := 0
		flush := func() {
			for a := newAttempt(); s.out.writing; tries++ {
				s.out.flush(a)
			}
		}
		var slot bridge.Slot
		s.out.hold()
		s.out.Push(&slot, u)
		s.out.raw = turn{s.out.raw, s.out.sendPing} // another one comes meanwhile
		s.out.sendPing()
		s.out.conn.Close()
		flush()
		s.out.release()
		flush()
		if tries != 1 || s.out.bytes != 0 || s.out.Drop(&slot) {
			t.Errorf("after %d tries %d bytes wait", tries, s.out.bytes)
		}
		return engine{}
	}
	server := httptest.NewServer(h)
	defer server.Close()
	c, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(server.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := h.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// No row of the old secret is written after one of the new one, on either wire.
func TestNothingIsWrittenWhileTheSecretChanges(t *testing.T) {
	u := updates(t, 1)[0]
	for name, encoder := range map[string]*encoder{"classic": onClassic, "v2": onV2} {
		s, _ := still(Config{})
		takenBack := false
		s.encoder, s.client = encoder, halfway{s: s, u: u, takenBack: &takenBack}
		s.receive([]byte(`{"action":"secret","body":"` + canary.Mark + `me"}`))
		s.out.end(nil)
		s.out.wait()
		if !takenBack {
			t.Errorf("%s: a row was written while the secret changed", name)
		}
	}
}
