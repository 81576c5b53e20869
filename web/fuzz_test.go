package web

import (
	"bytes"
	"encoding/json"
	"net"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/time/rate"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/shared"
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
	} {
		f.Add([]byte(seed))
	}
	actions := map[string]bool{"ack": true, "error": true}
	f.Fuzz(func(t *testing.T, message []byte) {
		if !utf8.Valid(message) || len(message) > defaultMaxMessageBytes {
			return // refused before it comes to the codec
		}
		h := &Handler{config: Config{Logger: canary.Logger(canary.Watch(t))}.withDefaults(), logs: rate.NewLimiter(1, 1)}
		conn := &recorder{}
		e := engine{map[shared.EntityKey]bool{}}
		s := &session{handler: h, codec: v2Wire{}, client: e, messages: newPace(1000), subscribes: newPace(1_000_000)}
		s.out = newOutbox(conn, s)
		s.receive(message)
		s.out.end(nil)
		s.out.wait()
		frames := payloads(t, conn.written)
		if len(frames) == 0 {
			t.Fatalf("%q is not answered", message)
		}
		for i, frame := range frames {
			var got v2Frame
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
		}
		for key := range e.subscribed {
			if err := key.Validate(); err != nil {
				t.Fatalf("%q subscribed to %q: %v", message, key, err)
			}
		}
	})
}

// An order is read as it was written, and nothing else is one.
func FuzzParseOrder(f *testing.F) {
	f.Add(order{code: CloseRevoked, digest: digestOf(shared.NewSecret(canary.Mark)), given: time.UnixMilli(1)}.text())
	f.Add("close 4410 x 99999999999999999999")
	f.Add("again")
	f.Fuzz(func(t *testing.T, text string) {
		o, err := parseOrder(text)
		if err != nil {
			return
		}
		if again, err := parseOrder(o.text()); err != nil || again != o {
			t.Fatalf("%q reads as %+v, which reads as %+v, %v", text, o, again, err)
		}
	})
}
