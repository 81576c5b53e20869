package sealed

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/bridge/bustest"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/shared"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	first  = []byte("the first key of 16 bytes or more")
	second = []byte("the second key of 16 bytes or more")
)

func TestConformance(t *testing.T) {
	bustest.Run(t, func(*testing.T) bustest.Harness {
		var broker membus.Broker
		return bustest.Harness{
			NewBus: func(t *testing.T) bus.Bus { return on(t, broker.NewNode(), first) },
			Stop:   func(*testing.T) { broker.SetDown(true) },
			Start:  func(*testing.T) { broker.SetDown(false) },
			Body: func(_ shared.EntityType, text string) []byte {
				b, err := json.Marshal(map[string][]byte{"text": []byte(text)})
				if err != nil {
					panic(err)
				}
				return b
			},
		}
	})
}

func on(t testing.TB, bus bus.Bus, keys ...[]byte) *Bus {
	t.Helper()
	b, err := New(bus, Config{Keys: keys, Logger: canary.Logger(canary.Output(t))})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ear is what is heard.
type ear struct{ heard []string }

func (e *ear) Message(b []byte) { e.heard = append(e.heard, string(b)) }
func (e *ear) Live()            {}
func (e *ear) Lost(error)       {}

// The keys of nodes that run are changed one node after the other: at each step all hear
// all. Who knows none of a node's keys is not heard.
func TestKeysAreChangedOnNodesThatRun(t *testing.T) {
	var broker membus.Broker
	steps := [][][]byte{{first}, {first, second}, {second, first}, {second}}
	for i, keys := range steps {
		for j, others := range steps {
			here, there := on(t, broker.NewNode(), keys...), on(t, broker.NewNode(), others...)
			var e ear
			if err := there.Subscribe("items", &e); err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time with states that were used
				if err := here.Publish(t.Context(), "items", []byte(`{"entity":"items","id":"1"}`)); err != nil {
					t.Fatal(err)
				}
			}
			want := fmt.Sprint([]string{`{"entity":"items","id":"1"}`, `{"entity":"items","id":"1"}`})
			refused := uint64(0)
			if !slices.ContainsFunc(others, func(k []byte) bool { return bytes.Equal(k, keys[0]) }) {
				want, refused = "[]", 2
			}
			if refused > 0 && (i-j == 1 || j-i == 1) {
				t.Errorf("from step %d to step %d nothing is heard", i, j)
			}
			if got := fmt.Sprint(e.heard); got != want || there.Refused() != refused {
				t.Errorf("from step %d to step %d: heard %s and refused %d, want %s and %d", i, j, got, there.Refused(), want, refused)
			}
			_, _ = here.Close(t.Context()), there.Close(t.Context())
		}
	}
}

// What a stranger publishes does nothing, and writes a line to the log and no more.
func TestWhatAStrangerPublishesDoesNothing(t *testing.T) {
	var broker membus.Broker
	var log bytes.Buffer
	b, err := New(broker.NewNode(), Config{Keys: [][]byte{first, second}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	var e ear
	if err := b.Subscribe("items", &e); err != nil {
		t.Fatal(err)
	}
	good, err := Seal(first, []byte(`{"entity":"items","id":"1"}`))
	if err != nil {
		t.Fatal(err)
	}
	other, err := Seal([]byte("a key that nobody has"), []byte(`{"entity":"items","id":"1"}`))
	if err != nil {
		t.Fatal(err)
	}
	stranger := broker.NewNode()
	forged := []string{
		"", "{}", "}", `"}`, `{"entity":"items","id":"1"}`, string(other), string(good[1:]), string(good[:len(good)-1]), string(good) + " ", " " + string(good),
		strings.Replace(string(good), `"1"`, `"2"`, 1), strings.Replace(string(good), `"mac"`, `"MAC"`, 1), `{"id":"2",` + string(good[1:]),
		before + strings.Repeat("0", 64) + after, strings.Repeat("x", 1<<20),
	}
	for i := range good {
		flipped := bytes.Clone(good)
		flipped[i] ^= 1
		forged = append(forged, string(flipped))
	}
	for _, body := range forged {
		if err := stranger.Publish(t.Context(), "items", []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if len(e.heard) > 0 || b.Refused() != uint64(len(forged)) {
		t.Errorf("heard %q, refused %d of %d", e.heard, b.Refused(), len(forged))
	}
	if n := strings.Count(log.String(), "\n"); n != 1 || strings.Contains(log.String(), "key of 16") {
		t.Errorf("the log has %d lines: %s", n, log.String())
	}
	if err := stranger.Publish(t.Context(), "items", good); err != nil || fmt.Sprint(e.heard) != `[{"entity":"items","id":"1"}]` {
		t.Errorf("what was sealed is heard as %q, %v", e.heard, err)
	}
	if err := errors.Join(b.Close(t.Context()), stranger.Close(t.Context())); err != nil {
		t.Error(err)
	}
}

func TestWhatCannotBeIsRefusedAtTheStart(t *testing.T) {
	bus := new(membus.Broker).NewNode()
	for name, keys := range map[string][][]byte{"none": nil, "a short one": {first, []byte("short")}, "an empty one": {nil}} {
		if b, err := New(bus, Config{Keys: keys}); err == nil || b != nil || strings.Contains(err.Error(), "short\"") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(nil, Config{Keys: [][]byte{first}}); err == nil {
		t.Error("no bus is taken for one")
	}
	b := on(t, bus, first)
	for _, body := range []string{"", "{}", "text", "[1]", `{"a":1} `} {
		if err := b.Publish(t.Context(), "items", []byte(body)); !errors.Is(err, errNoObject) {
			t.Errorf("%q is published: %v", body, err)
		}
		if err := b.Spread(t.Context(), "items", []byte(body)); !errors.Is(err, errNoObject) {
			t.Errorf("%q is spread: %v", body, err)
		}
	}
}

// What is sealed is an object still, and is opened as it was by who has the key, and by
// nobody else; and nothing is opened that was not sealed.
func FuzzUnseal(f *testing.F) {
	f.Add([]byte(`{"entity":"items","id":"1"}`))
	sealed, err := Seal(first, []byte(`{"entity":"items","id":"1"}`))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add([]byte(before + strings.Repeat("0", 64) + after))
	keys := []*key{newKey(first), newKey(second)}
	f.Fuzz(func(t *testing.T, b []byte) {
		if body, err := open(b, keys[:1]); err == nil { // as the documentation says, by another hand
			mac := hmac.New(sha256.New, first)
			mac.Write(body)
			mac.Write([]byte("}"))
			if want := string(body) + `,"mac":"` + hex.EncodeToString(mac.Sum(nil)) + `"}`; !strings.EqualFold(want, string(b)) {
				t.Fatalf("%q is opened, and should be %q", b, want)
			}
		}
		sealed, err := keys[1].seal(b)
		if err != nil {
			return
		}
		if body, err := open(sealed, keys); err != nil || string(body)+"}" != string(b) {
			t.Fatalf("%q is sealed as %q and opened as %q, %v", b, sealed, body, err)
		}
		if _, err := open(sealed, keys[:1]); err == nil {
			t.Fatalf("%q is opened with another key", sealed)
		}
		if json.Valid(b) && strings.ContainsAny(string(b), `"`) && !json.Valid(sealed) {
			t.Fatalf("%q is sealed as %q", b, sealed)
		}
	})
}

type idle struct{}

func (idle) Message([]byte) {}
func (idle) Live()          {}
func (idle) Lost(error)     {}

// BenchmarkSeal and BenchmarkHear are what a key adds to a message.
func BenchmarkSeal(b *testing.B) {
	body := []byte(`{"entity":"items","id":"nobody watches this","from":"7QWXW5XGBQYOYC7RKN7SRIYJNA","seq":100}`)
	k := newKey(first)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.seal(body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHear(b *testing.B) {
	sealed, err := Seal(first, []byte(`{"entity":"items","id":"nobody watches this","from":"7QWXW5XGBQYOYC7RKN7SRIYJNA","seq":100}`))
	if err != nil {
		b.Fatal(err)
	}
	l := &listener{Listener: idle{}, bus: on(b, new(membus.Broker).NewNode(), first)}
	b.ReportAllocs()
	for b.Loop() {
		l.Message(sealed)
	}
}
