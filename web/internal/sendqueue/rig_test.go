package sendqueue

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/internal/conflate"
	"github.com/entity-sync/entity-sync/web/internal/socket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// text is an update that is written as it is. A space counts as no byte of it.
type text string

func (u text) Bytes() int { return len(u) - strings.Count(string(u), " ") }

type slot = conflate.Slot[text]

// plain writes updates as they are, and freshness in angle brackets.
type plain struct{}

func (plain) Update(u text) []byte        { return []byte(u) }
func (plain) Freshness(fresh bool) []byte { return fmt.Appendf(nil, "<%v>", fresh) }

func (plain) Gap(topic string, missed uint64) []byte {
	return fmt.Appendf(nil, "<%s %d>", topic, missed)
}

// record is a Transport that keeps what is written, and takes nothing at once.
type record struct {
	mu      sync.Mutex
	written []byte
	frames  []int         // how many each Write had
	gate    chan struct{} // each Write takes one, unless it is nil
}

func (r *record) TryWrite(*socket.Scratch, net.Buffers) (net.Buffers, error) {
	panic("not immediate")
}

func (r *record) Write(frames net.Buffers, _ func() time.Time) error {
	if r.gate != nil {
		<-r.gate
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frames = append(r.frames, len(frames))
	for _, frame := range frames {
		r.written = append(r.written, frame...)
	}
	return nil
}

func (r *record) Ping() []byte                    { return []byte("?") }
func (r *record) Close(code int, _ string) []byte { return fmt.Appendf(nil, "[%d]", code) }

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(r.written)
}

// wire is a Transport over a socket, which says of each turn when it begins.
type wire struct {
	socket.Socket
	record
	begins func()
}

func (w *wire) TryWrite(room *socket.Scratch, frames net.Buffers) (net.Buffers, error) {
	if w.begins != nil {
		w.begins()
	}
	return w.Socket.TryWrite(room, frames)
}

func (w *wire) Write(frames net.Buffers, endBy func() time.Time) error {
	return w.Socket.Write(frames, socket.Limits{Timeout: time.Minute, EndBy: endBy, Progress: func() error { return nil }})
}

func (w *wire) Close(code int, reason string) []byte { return w.record.Close(code, reason) }

// hangUp ends the connection.
func (w *wire) hangUp() { _ = w.Conn.Close() }

// owner counts what it is told.
type owner struct{ overflowed, expired, failed int }

func (o *owner) Overflowed() { o.overflowed++ }
func (o *owner) Expired()    { o.expired++ }
func (o *owner) Failed()     { o.failed++ }

// rig is a Group whose writers are waited for.
type rig struct {
	*Group[text]
	work sync.WaitGroup
}

const overflowCode = 4408

func newRig(t testing.TB, change ...func(*Config)) *rig {
	r := new(rig)
	c := Config{MaxBytes: 1 << 20, MaxEvents: 4, MaxEventBytes: 1000, OverflowCode: overflowCode, EndTimeout: time.Minute, Clock: time.Now, Go: func(write func()) { r.work.Go(write) }}
	for _, change := range change {
		change(&c)
	}
	r.Group = NewGroup[text](c)
	t.Cleanup(func() {
		r.work.Wait()
		r.Close()
	})
	return r
}

// recorded is a queue whose transport keeps what is written.
func (r *rig) recorded() (*Queue[text], *record, *owner) {
	q, to, o := new(Queue[text]), new(record), new(owner)
	r.Init(q, Options[text]{Transport: to, Encoder: plain{}, Owner: o})
	return q, to, o
}

// wired is a queue that writes to a socket, and the socket's other end.
func (r *rig) wired(t testing.TB) (*Queue[text], *wire, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	q, w := new(Queue[text]), &wire{Socket: socket.New(server)}
	r.Init(q, Options[text]{Transport: w, Encoder: plain{}, Owner: new(owner), Immediate: true})
	return q, w, client.(*net.TCPConn)
}

// byHand has nothing flushed by itself, and returns what flushes a queue.
func (r *rig) byHand() (flush func(*Queue[text])) {
	r.flusher.most = 0
	room := socket.NewScratch()
	return func(q *Queue[text]) {
		for q.writing {
			q.flush(room)
		}
	}
}

func readAll(t *testing.T, client io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(client)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}
