package nsqbus_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/bridge/nsqbus"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/shared"
)

// What a real nsqd does is tested with a real nsqd, in the test module. Here
// are the peers that are none, or that misbehave as no real one can be made to.

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConfigErrorsNameTheField(t *testing.T) {
	for want, c := range map[string]nsqbus.Config{
		"Addrs: is empty, and so is LookupAddrs": {},
		"Addrs: holds":                           {Addrs: []string{"localhost"}},
		"LookupAddrs: holds":                     {Addrs: []string{"h:1"}, LookupAddrs: []string{"localhost:http"}},
		"LookupInterval: is 1":                   {LookupAddrs: []string{"h:1"}, LookupInterval: time.Millisecond},
		"LookupInterval: is -1":                  {LookupAddrs: []string{"h:1"}, LookupInterval: -1},
		"Prefix: is":                             {Addrs: []string{"h:1"}, Prefix: "a b"},
		"SharedTopic: makes":                     {Addrs: []string{"h:1"}, SharedTopic: "x#ephemeral"},
		`SharedTopic: makes the topic "` + strings.Repeat("p", 60) + `shared", with the prefix: bad entity type: it has 66 bytes`: {Addrs: []string{"h:1"}, Prefix: strings.Repeat("p", 60), SharedTopic: "shared"},
		"Heartbeat: is":   {Addrs: []string{"h:1"}, Heartbeat: time.Millisecond},
		"DialTimeout: is": {Addrs: []string{"h:1"}, DialTimeout: -1},
		"Reconnect: is":   {Addrs: []string{"h:1"}, Reconnect: -1},
	} {
		if _, err := nsqbus.New(c); err == nil || !strings.HasPrefix(err.Error(), "nsqbus.Config."+want) {
			t.Errorf("New(%+v) returned %v, want an error that begins nsqbus.Config.%s", c, err, want)
		}
	}
}

func TestPrefixAndEntityMustFitATopic(t *testing.T) {
	b := open(t, "127.0.0.1:1", strings.Repeat("p", 60)+".")
	if err := b.Subscribe("items", &silent{}); !errors.Is(err, shared.ErrBadEntity) {
		t.Errorf("a topic of 66 bytes: %v, want ErrBadEntity", err)
	}
	if err := b.Subscribe("abc", &silent{}); err != nil {
		t.Errorf("a topic of 64 bytes: %v", err)
	}
}

// nsqd's HTTP port is next to its TCP port, and easily taken for it. The answer
// "HTTP…" reads as a frame of 1.2 GB.
func TestAnHTTPServerIsNotTakenForNSQD(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	b := open(t, server.Listener.Addr().String(), "")
	err := publish(t, b, 20*time.Second)
	if !errors.Is(err, shared.ErrUnavailable) || !strings.Contains(err.Error(), "not an nsqd") {
		t.Errorf("Publish returned %v, want ErrUnavailable and the reason", err)
	}
}

func TestAPeerThatNeverAnswersCostsTheDeadlineAlone(t *testing.T) {
	fake := newFake(t, func(net.Conn, *bufio.Reader) {})
	b := open(t, fake, "")
	begin := time.Now()
	err := publish(t, b, 200*time.Millisecond)
	if took := time.Since(begin); !errors.Is(err, shared.ErrUnavailable) || took > 5*time.Second {
		t.Errorf("Publish returned %v after %v, want ErrUnavailable soon after 200ms", err, took)
	}
}

// A frozen nsqd keeps its connections and says nothing: three heartbeats later
// it counts as lost.
func TestASilentConnectionIsLost(t *testing.T) {
	fake := newFake(t, func(c net.Conn, r *bufio.Reader) {
		handshake(t, c, r)
		frame(c, 0, "OK") // to SUB, and then nothing ever again
	})
	b := open(t, fake, "")
	l := &silent{lost: make(chan error, 10)}
	begin := time.Now()
	if err := b.Subscribe("items", l); err != nil {
		t.Fatal(err)
	}
	select {
	case <-l.lost:
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("noticed after %v, want about 3s", took)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("a silent connection was never noticed")
	}
}

func TestOddFramesEndTheConnectionAndNothingElse(t *testing.T) {
	for name, odd := range map[string]func(net.Conn){
		"huge length":      func(c net.Conn) { c.Write([]byte{0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0}) },
		"negative length":  func(c net.Conn) { c.Write([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}) },
		"tiny length":      func(c net.Conn) { c.Write([]byte{0, 0, 0, 3, 0, 0, 0, 0}) },
		"unknown type":     func(c net.Conn) { frame(c, 7, "what") },
		"short message":    func(c net.Conn) { frame(c, 2, "short") },
		"unasked response": func(c net.Conn) { frame(c, 0, "OK"); frame(c, 0, "OK") },
	} {
		t.Run(name, func(t *testing.T) {
			fake := newFake(t, func(c net.Conn, r *bufio.Reader) {
				handshake(t, c, r)
				if name != "unasked response" {
					frame(c, 0, "OK")
				}
				odd(c)
			})
			b := open(t, fake, "")
			l := &silent{lost: make(chan error, 100)}
			if err := b.Subscribe("items", l); err != nil {
				t.Fatal(err)
			}
			for range 2 { // it comes back, and meets the same again
				select {
				case <-l.lost:
				case <-time.After(20 * time.Second):
					t.Fatal("the connection was not given up")
				}
			}
		})
	}
}

func TestAPublishersOddAnswersAreErrors(t *testing.T) {
	for name, answer := range map[string]func(net.Conn){
		"refused":      func(c net.Conn) { frame(c, 1, "E_BAD_TOPIC no") },
		"unknown type": func(c net.Conn) { frame(c, 9, "OK") },
		"garbage":      func(c net.Conn) { c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) },
		"hang up":      func(c net.Conn) { c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			fake := newFake(t, func(c net.Conn, r *bufio.Reader) {
				handshake(t, c, r)
				answer(c)
			})
			if err := publish(t, open(t, fake, ""), 20*time.Second); err == nil {
				t.Error("Publish returned nil")
			}
		})
	}
}

// An nsqd without TLS would take the secret in clear, were it given.
func TestWithoutTheTLSAskedForNothingIsSaid(t *testing.T) {
	said := make(chan []byte, 100)
	fake := newFake(t, func(c net.Conn, r *bufio.Reader) {
		offer(t, c, r, `{"tls_v1":false,"auth_required":true}`)
		rest, _ := io.ReadAll(r) // until the client hangs up
		said <- rest
	})
	b, err := nsqbus.New(nsqbus.Config{
		Addrs: []string{fake}, TLS: &tls.Config{}, AuthSecret: canary.Mark,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close(context.Background())
	if err := publish(t, b, 20*time.Second); !errors.Is(err, shared.ErrUnavailable) || !strings.Contains(err.Error(), "TLS") {
		t.Errorf("Publish returned %v, want ErrUnavailable and the reason", err)
	}
	if rest := <-said; len(rest) != 0 {
		t.Errorf("the client went on in clear: %q", rest)
	}
}

// Of two addresses, one dead: the other is found within the deadline, and from
// then on tried first.
func TestPublishFailsOver(t *testing.T) {
	dead := newFake(t, func(net.Conn, *bufio.Reader) {}) // accepts and never answers
	good := newFake(t, func(c net.Conn, r *bufio.Reader) {
		handshake(t, c, r)
		for {
			if _, err := r.ReadString('\n'); err != nil { // PUB topic
				return
			}
			var size uint32
			if err := binary.Read(r, binary.BigEndian, &size); err != nil {
				return
			}
			if _, err := r.Discard(int(size)); err != nil {
				return
			}
			frame(c, 0, "OK")
		}
	})
	b, err := nsqbus.New(nsqbus.Config{Addrs: []string{dead, good}, AuthSecret: canary.Mark})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close(context.Background()) })
	const within = 4 * time.Second // half of it for each, where both are tried
	if err := publish(t, b, within); err != nil {
		t.Fatalf("with one of two dead: %v", err)
	}
	begin := time.Now()
	for range 10 {
		if err := publish(t, b, within); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(begin); took > 10*within/2 {
		t.Errorf("ten more took %v: the dead one is tried first each time", took)
	}
}

func open(t *testing.T, addr, prefix string) *nsqbus.Bus {
	t.Helper()
	b, err := nsqbus.New(nsqbus.Config{
		Addrs: []string{addr}, Prefix: prefix, Reconnect: 50 * time.Millisecond, AuthSecret: canary.Mark, Logger: canary.Logger(canary.Output(t)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := b.Close(ctx); err != nil {
			t.Errorf("Close returned %v", err)
		}
	})
	return b
}

func publish(t *testing.T, b *nsqbus.Bus, within time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	err := b.Publish(ctx, "items", []byte("x"))
	t.Log(err) // an output like any other
	return err
}

// silent is a listener that tells of losses only.
type silent struct{ lost chan error }

func (s *silent) Message([]byte) {}
func (s *silent) Live()          {}
func (s *silent) Lost(err error) {
	if s.lost != nil {
		s.lost <- err
	}
}

// newFake runs a peer on loopback: each connection is given to serve, and is
// held open after it until the client or the test ends it.
func newFake(t *testing.T, serve func(net.Conn, *bufio.Reader)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				r := bufio.NewReader(c)
				serve(c, r)
				io.Copy(io.Discard, r) // until the client is gone: its bus is closed before this
			})
		}
	})
	return l.Addr().String()
}

// handshake takes the magic and IDENTIFY, and offers no features.
func handshake(t *testing.T, c net.Conn, r *bufio.Reader) {
	t.Helper()
	offer(t, c, r, `{"max_rdy_count":2500}`)
}

// offer takes the magic and IDENTIFY, and answers with features.
func offer(t *testing.T, c net.Conn, r *bufio.Reader, features string) {
	t.Helper()
	if _, err := r.ReadString('\n'); err != nil { // "  V2IDENTIFY\n"
		return
	}
	var size uint32
	if err := binary.Read(r, binary.BigEndian, &size); err != nil {
		return
	}
	if _, err := r.Discard(int(size)); err != nil {
		return
	}
	frame(c, 0, features)
}

func frame(c net.Conn, kind uint32, data string) {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(data)+4))
	b = binary.BigEndian.AppendUint32(b, kind)
	c.Write(append(b, data...)) // a client that hung up is part of some tests
}
