package nsqbus_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/bridge/nsqbus"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
)

// interval is how often the tests' buses ask.
const interval = 100 * time.Millisecond

// Whatever an nsqlookupd answers, what is known goes on; and when it answers as
// one should, that is taken.
func TestRubbishFromLookupdChangesNothing(t *testing.T) {
	endless := func(w http.ResponseWriter, r *http.Request, piece string, pause time.Duration) {
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, piece); err != nil {
				return
			}
			if pause > 0 {
				w.(http.Flusher).Flush()
				time.Sleep(pause)
			}
		}
	}
	// raw answers with what net/http would not let a server say.
	raw := func(w http.ResponseWriter, begin, piece string) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		for _, err = io.WriteString(c, begin); err == nil; {
			_, err = io.WriteString(c, piece)
		}
	}
	for name, rubbish := range map[string]func(w http.ResponseWriter, r *http.Request, wrong string){
		"a huge answer of no length": func(w http.ResponseWriter, _ *http.Request, a string) {
			raw(w, "HTTP/1.0 200 OK\r\n\r\n"+nodes(a), strings.Repeat(" ", 1<<20))
		},
		"a huge header": func(w http.ResponseWriter, _ *http.Request, _ string) {
			raw(w, "HTTP/1.0 200 OK\r\n", "X: "+strings.Repeat("x", 1<<20)+"\r\n")
		},
		"a page":         func(w http.ResponseWriter, _ *http.Request, _ string) { fmt.Fprint(w, "<html>hello</html>") },
		"nothing":        func(http.ResponseWriter, *http.Request, string) {},
		"no producers":   func(w http.ResponseWriter, _ *http.Request, _ string) { fmt.Fprint(w, `{}`) },
		"another type":   func(w http.ResponseWriter, _ *http.Request, _ string) { fmt.Fprint(w, `{"producers":"none"}`) },
		"half an answer": func(w http.ResponseWriter, _ *http.Request, a string) { fmt.Fprint(w, nodes(a)[:len(nodes(a))-3]) },
		"an error": func(w http.ResponseWriter, _ *http.Request, a string) {
			http.Error(w, nodes(a), http.StatusInternalServerError)
		},
		"a redirect": func(w http.ResponseWriter, r *http.Request, _ string) {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		},
		"a huge answer": func(w http.ResponseWriter, r *http.Request, a string) {
			fmt.Fprint(w, nodes(a))
			endless(w, r, strings.Repeat(" ", 1<<20), 0)
		},
		"a slow answer": func(w http.ResponseWriter, r *http.Request, a string) {
			fmt.Fprint(w, nodes(a))
			endless(w, r, " ", 50*time.Millisecond)
		},
		"no answer": func(_ http.ResponseWriter, r *http.Request, _ string) { <-r.Context().Done() },
		"impossible ones": func(w http.ResponseWriter, _ *http.Request, _ string) {
			fmt.Fprint(w, nodes("a b:1", "127.0.0.1:0", "127.0.0.1:70000", ":4150", "0.0.0.0:4150", "a/b:4150"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			given, wrong, right := newNSQD(t), newNSQD(t), newNSQD(t)
			var asked atomic.Int64
			var well atomic.Bool
			lookupd := newLookupd(t, func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				switch {
				case well.Load():
					fmt.Fprint(w, nodes(right.addr))
				case r.URL.Path == "/nodes":
					rubbish(w, r, wrong.addr)
				default: // the redirect was followed
					fmt.Fprint(w, nodes(wrong.addr))
				}
			})
			b := openWith(t, nsqbus.Config{Addrs: []string{given.addr}, LookupAddrs: []string{lookupd}})
			if err := b.Subscribe("items", &silent{}); err != nil {
				t.Fatal(err)
			}
			given.untilSubscribed(t, 1)
			testkit.Until(t, "it was asked three times", func() bool { return asked.Load() >= 3 })
			testkit.Until(t, "it is published to the nsqd that was given", func() bool { return publish(t, b, 20*time.Second) == nil })
			well.Store(true)
			right.untilSubscribed(t, 1)
			if n := wrong.connections.Load(); n != 0 {
				t.Errorf("%d connections to what no good answer named", n)
			}
		})
	}
}

// What is published to a topic that no node has subscribed to is kept for the
// first that does, and the others never hear it.
func TestAnNSQDThatWasFoundIsSubscribedBeforeItIsPublishedTo(t *testing.T) {
	nsqd := newNSQD(t)
	nsqd.hesitates = 200 * time.Millisecond
	lookupd := newLookupd(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, nodes(nsqd.addr)) })
	b := openWith(t, nsqbus.Config{LookupAddrs: []string{lookupd}})
	for _, entity := range []shared.EntityType{"items", "users"} {
		if err := b.Subscribe(entity, &silent{}); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Until(t, "it is published to", func() bool { return publish(t, b, time.Second) == nil })
	acknowledged := false
	for _, command := range nsqd.all() {
		switch command {
		case "OK to SUB items":
			acknowledged = true
		case "PUB items":
			if !acknowledged {
				t.Errorf("published before the subscription was acknowledged: %q", nsqd.all())
			}
		}
	}
	if !acknowledged {
		t.Errorf("published without a subscription: %q", nsqd.all())
	}
}

func TestWithNothingFoundPublishIsUnavailableInTime(t *testing.T) {
	lookupd := newLookupd(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, nodes()) })
	b := openWith(t, nsqbus.Config{LookupAddrs: []string{lookupd}})
	begin := time.Now()
	err := publish(t, b, time.Minute)
	if took := time.Since(begin); !errors.Is(err, shared.ErrUnavailable) || took > 10*time.Second {
		t.Errorf("Publish returned %v after %v, want ErrUnavailable after half a second", err, took)
	}
}

func TestCloseDoesNotWaitForLookupd(t *testing.T) {
	asked := make(chan struct{}, 1)
	lookupd := newLookupd(t, func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
	})
	b := openWith(t, nsqbus.Config{LookupAddrs: []string{lookupd}})
	if err := b.Subscribe("items", &silent{}); err != nil {
		t.Fatal(err)
	}
	<-asked
	ctx, cancel := context.WithTimeout(t.Context(), time.Second) // half of what an answer may take
	defer cancel()
	if err := b.Close(ctx); err != nil {
		t.Error(err)
	}
}

func TestAnAbsentLookupdIsLoggedSparingly(t *testing.T) {
	var asked atomic.Int64
	lookupd := newLookupd(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		http.Error(w, "", http.StatusServiceUnavailable)
	})
	logged := &record{}
	b := openWith(t, nsqbus.Config{LookupAddrs: []string{lookupd}, LookupInterval: 10 * time.Millisecond, Logger: slog.New(logged)})
	if err := b.Subscribe("items", &silent{}); err != nil {
		t.Fatal(err)
	}
	testkit.Until(t, "it was asked 20 times", func() bool { return asked.Load() >= 20 })
	got := logged.values("failures")
	if len(got) < 5 {
		t.Errorf("logged the failures %v, want the 1st, 2nd, 4th, 8th, 16th", got)
	}
	for i, n := range got { // perhaps more of them by now
		if n != 1<<i {
			t.Errorf("logged the failures %v, want the 1st, 2nd, 4th, 8th, 16th", got)
		}
	}
}

// nodes is what nsqlookupd answers.
func nodes(addrs ...string) string {
	producers := []string{}
	for _, addr := range addrs {
		host, port, _ := strings.Cut(addr, ":")
		producers = append(producers, fmt.Sprintf(`{"remote_address":"10.0.0.1:55","hostname":"h","broadcast_address":%q,"tcp_port":%s,"http_port":4151,"version":"1.3.0","tombstones":[false],"topics":["items"]}`, host, port))
	}
	return `{"producers":[` + strings.Join(producers, ",") + `]}`
}

func newLookupd(t *testing.T, serve http.HandlerFunc) (addr string) {
	t.Helper()
	s := httptest.NewServer(serve)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// openWith opens a bus that asks often, and needs no heartbeats of a fake.
func openWith(t *testing.T, c nsqbus.Config) *nsqbus.Bus {
	t.Helper()
	if c.LookupInterval == 0 {
		c.LookupInterval = interval
	}
	if c.Logger == nil {
		c.Logger = canary.Logger(canary.Output(t))
	}
	if c.Reconnect == 0 {
		c.Reconnect = 50 * time.Millisecond
	}
	c.Heartbeat, c.AuthSecret = time.Minute, canary.Mark
	b, err := nsqbus.New(c)
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

// fakeNSQD takes what a bus says, and delivers what it is told to.
type fakeNSQD struct {
	addr        string
	hesitates   time.Duration // before it acknowledges SUB
	connections atomic.Int64

	mu          sync.Mutex
	commands    []string
	subscribers []net.Conn
}

func newNSQD(t *testing.T) *fakeNSQD {
	t.Helper()
	f := &fakeNSQD{}
	f.addr = newFake(t, func(c net.Conn, r *bufio.Reader) {
		f.connections.Add(1)
		handshake(t, c, r)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			f.serve(c, r, strings.Fields(line))
		}
	})
	return f
}

func (f *fakeNSQD) serve(c net.Conn, r *bufio.Reader, words []string) {
	switch words[0] {
	case "SUB":
		f.note("SUB " + words[1])
		time.Sleep(f.hesitates)
		f.note("OK to SUB " + words[1])
		frame(c, 0, "OK")
		f.mu.Lock()
		defer f.mu.Unlock()
		f.subscribers = append(f.subscribers, c)
	case "PUB":
		var size uint32
		if binary.Read(r, binary.BigEndian, &size) != nil {
			return
		}
		if _, err := r.Discard(int(size)); err != nil {
			return
		}
		f.note("PUB " + words[1])
		frame(c, 0, "OK")
	}
}

func (f *fakeNSQD) note(command string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.commands = append(f.commands, command)
}

func (f *fakeNSQD) all() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.commands)
}

// untilSubscribed waits for a number of acknowledged subscriptions, and returns
// the topics.
func (f *fakeNSQD) untilSubscribed(t *testing.T, n int) (topics []string) {
	t.Helper()
	testkit.Until(t, fmt.Sprintf("it has %d subscriptions", n), func() bool {
		topics = topics[:0]
		for _, command := range f.all() {
			if topic, ok := strings.CutPrefix(command, "OK to SUB "); ok {
				topics = append(topics, topic)
			}
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.subscribers) >= n
	})
	return topics
}

// deliver sends a message to every subscriber.
func (f *fakeNSQD) deliver(bodies ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.subscribers {
		for _, body := range bodies {
			frame(c, 2, "timestam\x00\x010123456789abcdef"+body)
		}
	}
}

// record is a slog.Handler that remembers the numbers in what was logged.
type record struct {
	slog.Handler
	mu   sync.Mutex
	seen map[string][]int64
}

func (r *record) Enabled(context.Context, slog.Level) bool { return true }

func (r *record) Handle(ctx context.Context, line slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil {
		r.seen = make(map[string][]int64)
	}
	line.Attrs(func(a slog.Attr) bool {
		switch a.Value.Kind() {
		case slog.KindInt64:
			r.seen[a.Key] = append(r.seen[a.Key], a.Value.Int64())
		case slog.KindUint64:
			r.seen[a.Key] = append(r.seen[a.Key], int64(a.Value.Uint64()))
		}
		return true
	})
	return slog.Default().Handler().Handle(ctx, line)
}

// values returns the numbers logged as key, in order.
func (r *record) values(key string) []int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.seen[key])
}
