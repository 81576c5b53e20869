package web

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/internal/tokenbucket"
	"github.com/entity-sync/entity-sync/web/wire"
)

// recorder is a connection that keeps what is written to it.
type recorder struct {
	net.Conn
	mu      sync.Mutex
	written []byte
}

func (r *recorder) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.written = append(r.written, b...)
	return len(b), nil
}

func (r *recorder) SetWriteDeadline(time.Time) error { return nil }
func (r *recorder) Close() error                     { return nil }

// engine is a client that accepts what the real one would.
type engine struct{ subscribed map[shared.EntityKey]bool }

func (e engine) Subscribe(key shared.EntityKey, _ bridge.SubscribeOptions) error {
	if err := key.Validate(); err != nil {
		return err
	}
	if key.Entity != "items" {
		return shared.ErrUnknownEntity
	}
	e.subscribed[key] = true
	return nil
}

func (e engine) Unsubscribe(key shared.EntityKey) { delete(e.subscribed, key) }
func (e engine) SetSecret(string)                 {}
func (e engine) Keys() []shared.EntityKey         { return nil }
func (e engine) Has(key shared.EntityKey) bool    { return e.subscribed[key] }
func (e engine) Len() int                         { return len(e.subscribed) }
func (e engine) Close()                           {}

// payloads splits what a server wrote into its frames' payloads.
func payloads(t *testing.T, b []byte) (all [][]byte) {
	for len(b) > 0 {
		if b[0] != 0x81 {
			t.Fatalf("a frame begins with %#x", b[0])
		}
		n, head := int(b[1]), 2
		if n == 126 {
			n, head = int(b[2])<<8|int(b[3]), 4
		}
		all = append(all, b[head:head+n])
		b = b[head+n:]
	}
	return all
}

// Whatever a client says on v2: it is answered, with frames of the document and
// at no great length, and nothing that is no key is subscribed to.
func FuzzV2Message(f *testing.F) {
	for _, seed := range []string{
		`{"action":"secret","ref":1,"body":"` + canary.Mark + `"}`, `{"action":"subscribe","ref":"a","body":{"entity":"items","id":"1"}}`,
		`{"action":"subscribe","body":[{"entity":"items","id":"1","version":"x"},{"entity":"","id":""}]}`, `{"action":"unsubscribe","body":[]}`,
		`{"action":"dance","ref":{}}`, `{"action":7}`, `[]`, `null`, `{}`, `{"Action":"secret","BODY":"x"}`, "", "\xff", `{"action":"subscribe","body":{"entity":"items","id":"\ud800"}}`,
		`[1,`, `{"action":7,`, `{"action":"subscribe","body":[{}]`, `{} {}`,
		`{"action":"subscribe","body":{"entity":"items","id":"1","ID":"2"}}`, `{"action":"subscribe","body":[{"entity":"items","id":"1"}],"body":[]}`,
		"{\"action\":\"subscribe\",\"body\":{\"entity\":\"items\",\"id\":\"1\",\"\u017fnapshot\":true}}", `{"act\u0069on":"subscribe","body":{"entity":"items","id":"\uFFFD"}}`,
	} {
		f.Add([]byte(seed))
	}
	actions := map[string]bool{"ack": true, "error": true}
	f.Fuzz(func(t *testing.T, message []byte) {
		if !utf8.Valid(message) || len(message) > defaultMaxMessageBytes {
			return // refused before it comes to the wire
		}
		s, written := hear(t, onV2, Config{}, message)
		frames := payloads(t, written)
		if len(frames) == 0 {
			t.Fatalf("%q is not answered", message)
		}
		for i, frame := range frames {
			var got struct {
				Action string
				Ref    json.RawMessage
				Body   *struct {
					Entity, ID, Message string
					Code                wire.Code
					Index               *int
				}
			}
			d := json.NewDecoder(bytes.NewReader(frame))
			d.DisallowUnknownFields()
			if err := d.Decode(&got); err != nil || !actions[got.Action] {
				t.Fatalf("%q is answered with %s: %v", message, frame, err)
			}
			if last := i == len(frames)-1; got.Action == "ack" && !last {
				t.Fatalf("%q is acknowledged before it is done", message)
			}
			if len(frame) > 1024 {
				t.Fatalf("%q is answered with %d bytes", message, len(frame))
			}
			if notJSON := got.Body != nil && got.Body.Code == wire.CodeBadJSON; notJSON == json.Valid(message) {
				t.Fatalf("%q is answered with %s", message, frame)
			}
		}
		subscribedToKeys(t, s, message)
	})
}

// hear has a session of a wire take one message, and returns what it wrote.
func hear(t *testing.T, encoder *encoder, c Config, message []byte) (s *session, written []byte) {
	c.Logger = canary.Logger(canary.Watch(t))
	s, conn := stillOn(encoder, c)
	s.client, s.subscribes = engine{map[shared.EntityKey]bool{}}, tokenbucket.New(1_000_000)
	s.receive(message)
	s.out.End(nil)
	s.out.Wait()
	return s, conn.written
}

// subscribedToKeys checks that what a session has subscribed to are keys, which one who
// reads JSON carelessly finds in the message, too.
func subscribedToKeys(t *testing.T, s *session, message []byte) {
	t.Helper()
	subscribed := s.client.(engine).subscribed
	if len(subscribed) == 0 {
		return
	}
	var lax struct{ Body json.RawMessage }
	var all []shared.EntityKey
	if err := json.Unmarshal(message, &lax); err != nil {
		t.Fatalf("%q subscribed to %v: %v", message, subscribed, err)
	}
	if err := json.Unmarshal(lax.Body, &all); err != nil {
		all = make([]shared.EntityKey, 1)
		if err := json.Unmarshal(lax.Body, &all[0]); err != nil {
			t.Fatalf("%q subscribed to %v: %v", message, subscribed, err)
		}
	}
	for key := range subscribed {
		if err := key.Validate(); err != nil || !slices.Contains(all, key) {
			t.Fatalf("%q subscribed to %q, and names %q: %v", message, key, all, err)
		}
		if made := strings.ContainsRune(key.ID, utf8.RuneError); made && !bytes.ContainsRune(message, utf8.RuneError) && !bytes.Contains(bytes.ToLower(message), []byte(`\ufffd`)) {
			t.Fatalf("%q subscribed to %q, which it does not name", message, key)
		}
	}
}

// Whatever a client says on the classic wire: it is told nothing, nothing that is no
// key is subscribed to, and the application gets the message as it is or not at all.
func FuzzClassicMessage(f *testing.F) {
	for _, seed := range []string{
		`{"action":"secret","body":"me"}`, `{"action":"subscribe","body":{"entity":"items","id":"1","snapshot":true}}`,
		`{"action":"unsubscribe","body":{"entity":"items","id":"1"}}`, `{"action":"subscribe","body":[]}`, `{"action":7}`, `{"action":""}`,
		`[]`, `null`, ` {}`, `{"ACTION":"secret","Body":"x"}`, "", "\xff", `{"action":"subscribe","body":{"entity":"items","id":"\u0000"}}`,
		`{"action":"subscribe","body":{"entity":"items","id":"1","id":"2"}}`, `{"action":"subscribe","action":"","body":{"entity":"items","id":"\udead"}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		if !utf8.Valid(message) || len(message) > defaultMaxMessageBytes {
			return // refused before it comes to the wire
		}
		var own []string
		c := Config{PassThrough: func(_ string, b []byte) { own = append(own, string(b)) }}
		s, written := hear(t, onClassic, c, message)
		if len(written) > 0 {
			t.Fatalf("%q is answered with %q", message, written)
		}
		subscribedToKeys(t, s, message)
		switch subscriptions := len(s.client.(engine).subscribed); {
		case len(own) > 1 || len(own) == 1 && own[0] != string(message):
			t.Fatalf("%q came to the application as %q", message, own)
		case len(own) == 1 && (subscriptions > 0 || !json.Valid(message)):
			t.Fatalf("%q came to the application, with %d subscriptions", message, subscriptions)
		}
		if id := s.who(); id.known && (len(own) > 0 || len(id.secret.Reveal()) > defaultMaxSecretBytes) {
			t.Fatalf("%q is taken for a secret", message)
		}
	})
}

// stranger is a connection that carries what a client sends, and then its end.
type stranger struct {
	recorder
	sends *bytes.Reader
}

func (s *stranger) Read(b []byte) (int, error)      { return s.sends.Read(b) }
func (s *stranger) SetReadDeadline(time.Time) error { return nil }
func (s *stranger) SetDeadline(time.Time) error     { return nil }

// hijacked is a response that leaves the connection to the upgrade.
type hijacked struct {
	http.ResponseWriter
	conn net.Conn
}

func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReader(bytes.NewReader(nil)), bufio.NewWriter(h.conn)), nil
}

// Whatever bytes come over a connection: its session ends with them, and has written
// whole frames, of which one at most is a close frame.
func FuzzFrames(f *testing.F) {
	for _, seed := range [][]byte{
		{}, {0x81, 0x80, 0, 0, 0, 0}, {0x81, 0x82, 0, 0, 0, 0, '{', '}'}, {0x88, 0x82, 0, 0, 0, 0, 3, 232}, {0x89, 0x81, 1, 2, 3, 4, 'x'},
		{0x01, 0x81, 0, 0, 0, 0, '{', 0x80, 0x81, 0, 0, 0, 0, '}'}, {0x81, 0xfe, 0xff, 0xff}, {0xc1, 0x80}, {0x82, 0x80, 0, 0, 0, 0},
		{0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0},
	} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	f.Fuzz(func(t *testing.T, sends []byte, modern bool) {
		if len(sends) > 64<<10 {
			return
		}
		request, err := http.NewRequest(http.MethodGet, "http://node/", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header = http.Header{
			"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="},
		}
		var subprotocols []string
		if modern {
			subprotocols = []string{wire.SubprotocolV2}
			request.Header.Set("Sec-WebSocket-Protocol", wire.SubprotocolV2)
		}
		conn := &stranger{sends: bytes.NewReader(sends)}
		h, err := newHandler(Config{Logger: canary.Logger(canary.Watch(t)), MessageRate: 1 << 20, SubscribeRate: 1 << 20, MaxMessageBytes: 4 << 10},
			func(*session) client { return engine{map[shared.EntityKey]bool{}} })
		if err != nil {
			t.Fatal(err)
		}
		if !h.admit(httptest.NewRecorder(), "somewhere") || !h.enter() {
			t.Fatal("the handler takes nobody")
		}
		ws, err := h.newUpgrader(subprotocols).Upgrade(hijacked{httptest.NewRecorder(), conn}, request)
		if err != nil {
			t.Fatal(err)
		}
		conn.written = nil // the upgrade
		s := newSession(h, ws, identity{}, "somewhere")
		h.add(s)
		s.begin()
		h.work.Wait()
		closes := 0
		for b := conn.written; len(b) > 0; {
			op, n, head := b[0], 0, 2
			if len(b) > 1 {
				n = int(b[1])
			}
			if n == 126 && len(b) > 3 {
				n, head = int(b[2])<<8|int(b[3]), 4
			}
			if op != 0x81 && op != 0x88 && op != 0x8a || len(b) < head+n {
				t.Fatalf("after %q it writes % x", sends, b)
			}
			if b = b[head+n:]; op == 0x88 {
				closes++
			}
		}
		if closes > 1 {
			t.Fatalf("after %q it writes %d close frames: % x", sends, closes, conn.written)
		}
	})
}
