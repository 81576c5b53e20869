package web

import (
	"bytes"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/time/rate"
	"pgregory.net/rapid"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/internal/testkit"
)

// sockets returns the two ends of a connection over loopback. What the kernel holds
// for it is little.
func sockets(t testing.TB) (server, client *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialled.Close(); accepted.Close() })
	return accepted.(*net.TCPConn), dialled.(*net.TCPConn)
}

// What a socket takes at once and what is left are together what was to be written.
func TestAnAttemptLosesNothing(t *testing.T) {
	server, client := sockets(t)
	if err := server.SetWriteBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	if err := client.SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	raw, err := server.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	a := newAttempt()
	// write returns how much the socket did not take.
	write := func(t rapid.TB, sizes ...int) int {
		var frames net.Buffers
		for i, size := range sizes {
			frames = append(frames, bytes.Repeat([]byte{byte(i)}, size))
		}
		want := slices.Concat(frames...)
		rest, err := a.run(raw, slices.Clone(frames))
		if err != nil {
			t.Fatal(err)
		}
		left := slices.Concat(rest...)
		got := make([]byte, len(want)-len(left))
		if _, err := io.ReadFull(client, got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(append(got, left...), want) {
			t.Fatal("what was written and what is left are not what was to be written")
		}
		return len(left)
	}
	if left := write(t, 1, 8<<20, 1); left < 2 {
		t.Errorf("of more than the kernel holds the socket leaves %d bytes", left)
	}
	rapid.Check(t, func(t *rapid.T) {
		write(t, rapid.SliceOfN(rapid.OneOf(rapid.IntRange(1, 100), rapid.IntRange(1, 20_000)), 0, 8).Draw(t, "sizes")...)
	})
}

// An attempt at a socket that is closed says so.
func TestAnAttemptAtAClosedSocketFails(t *testing.T) {
	server, client := sockets(t)
	raw, err := server.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	a := newAttempt()
	client.SetLinger(0)
	client.Close() // with a reset
	testkit.Until(t, "the reset has come", func() bool {
		_, err := a.run(raw, net.Buffers{[]byte("x")})
		return err != nil
	})
	server.Close()
	if _, err := a.run(raw, net.Buffers{[]byte("x")}); err == nil {
		t.Error("a closed socket is written to")
	}
}

// Another goroutine may be waiting for room in the socket. All other clients would wait
// as well if the flusher did.
func TestAnAttemptWaitsForNoOtherWriter(t *testing.T) {
	server, client := sockets(t)
	raw, err := server.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	writing, stop := make(chan bool), make(chan bool)
	var other sync.WaitGroup
	other.Go(func() {
		_ = raw.Write(func(uintptr) bool {
			writing <- true
			<-stop
			return true
		})
	})
	<-writing
	attempted := make(chan error, 1)
	other.Go(func() {
		_, err := newAttempt().run(raw, net.Buffers{[]byte("x")})
		attempted <- err
	})
	select {
	case err := <-attempted:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Error("the attempt waits")
	}
	close(stop)
	other.Wait()
	if _, err := client.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

// overSocket is a session that writes to a socket, and the socket's other end.
func overSocket(t testing.TB, h *Handler) (*session, *net.TCPConn) {
	t.Helper()
	server, client := sockets(t)
	s := &session{handler: h, encoder: onV2, conn: new(websocket.Conn), endOfMessage: midMessage}
	s.out = newSendQueue(server, s)
	return s, client
}

// What a change of one key that many watch takes does not grow with them, but for
// the system calls.
func TestWritingToMoreClientsAllocatesNothing(t *testing.T) {
	const many = 100
	h := &Handler{config: Config{}.withDefaults(), logs: rate.NewLimiter(1, 1)}
	h.flusher = newFlusher()
	u := aRow(t)
	frame := u.Encoded(onV2)
	var (
		queues  []*sendQueue
		slots   [many]bridge.Slot
		got     sync.WaitGroup
		readers sync.WaitGroup
	)
	for range many {
		s, client := overSocket(t, h)
		queues = append(queues, s.out)
		readers.Go(func() {
			b := make([]byte, len(frame))
			for {
				if _, err := io.ReadFull(client, b); err != nil {
					return
				}
				if !bytes.Equal(b, frame) {
					t.Error("what is read is not the frame")
				}
				got.Done()
			}
		})
	}
	perChange := func(n int) float64 {
		return testing.AllocsPerRun(100, func() {
			got.Add(n)
			for i, o := range queues[:n] {
				o.Push(&slots[i], u)
			}
			got.Wait()
		})
	}
	one, all := perChange(1), perChange(many)
	if all-one > 2 { // of many more recipients; the rest is noise of the runtime's own
		t.Errorf("writing allocates %v times for one client and %v times for %d", one, all, many)
	}
	for _, o := range queues {
		o.conn.Close()
	}
	readers.Wait()
	h.flusher.close()
}

// However many send queues wait, and are added again while they do: each is written, by
// no more goroutines than there may be.
func TestFlusherAgainstManySendQueues(t *testing.T) {
	h := &Handler{config: Config{}.withDefaults(), logs: rate.NewLimiter(1, 1)}
	h.flusher = newFlusher()
	const clients, changes = 50, 200
	u := aRow(t)
	frame := u.Encoded(onV2)
	var work sync.WaitGroup
	for range clients {
		s, client := overSocket(t, h)
		work.Go(func() {
			var slots [3]bridge.Slot
			for i := range changes {
				s.out.Push(&slots[i%len(slots)], u)
			}
			s.out.end(closeFrame(websocket.CloseNormalClosure, ""))
			s.out.wait()
			s.out.conn.Close()
		})
		work.Go(func() {
			b, err := io.ReadAll(client)
			if err != nil {
				t.Error(err)
			}
			n := 0
			for ; bytes.HasPrefix(b, frame); n++ {
				b = b[len(frame):]
			}
			if n < 1 || n > changes || !bytes.Equal(b, closeFrame(websocket.CloseNormalClosure, "")) {
				t.Errorf("read the row %d times, and then % x", n, b)
			}
		})
	}
	work.Wait()
	h.work.Wait()
	h.flusher.close()
	if f := h.flusher; f.first != nil || f.last != nil || f.busy != 0 || f.idle != 0 || f.waiting != 0 {
		t.Errorf("in the end it is %+v", f)
	}
}

// turn is a socket that tells of each turn in which something is written to it, and then
// takes it.
type turn struct {
	syscall.RawConn
	begins func()
}

func (t turn) Control(f func(uintptr)) error {
	t.begins()
	return t.RawConn.Control(f)
}

// A client for which more has come whenever it is its turn keeps nobody waiting: no more
// than one turn's worth is written to it before what came for another.
func TestFlusherIsFair(t *testing.T) {
	h := &Handler{config: Config{}.withDefaults(), flusher: newFlusher()}
	h.flusher.most, h.flusher.busy = 1, 1 // it runs below, where nothing is left to chance
	const others, turns = 3 * flushed, 50
	u := updates(t, 1)[0]

	var (
		busy, _ = overSocket(t, h)
		more    [2 * maxBatch]bridge.Slot
		waits   [others]func() // has an update wait for one of the others, if none does
		written int            // to the busy one
		begun   int            // turns of the busy one
	)
	come := func() {
		for i := range more {
			busy.out.Push(&more[i], u)
		}
		for _, add := range waits {
			add()
		}
	}
	busy.out.raw = turn{busy.out.raw, func() {
		written += len(more) - busy.out.updates.Len()
		if begun++; begun < turns {
			come()
		}
	}}
	for i := range others {
		s, _ := overSocket(t, h)
		var slot bridge.Slot
		var since int
		s.out.raw = turn{s.out.raw, func() {
			if n := written - since; n > maxBatch {
				t.Errorf("client %d waits for %d updates of another", i, n)
			}
		}}
		waits[i] = func() {
			if !s.out.writing {
				since = written
				s.out.Push(&slot, u)
			}
		}
	}

	come()
	h.flusher.closed = true // it ends when nothing waits
	h.flusher.run()
	if begun < turns {
		t.Errorf("the busy client had %d turns, want %d", begun, turns)
	}
}

// Large rows do not wait for the flusher, nor does it wait for them: see startLocked.
func TestLargeRowsAreNotTheFlushers(t *testing.T) {
	h := &Handler{config: Config{}.withDefaults(), flusher: newFlusher()}
	h.flusher.most = 0 // it does nothing
	s, client := overSocket(t, h)
	u := updates(t, kernelBuffer+1)[0]
	var slot bridge.Slot
	s.out.Push(&slot, u)
	if err := client.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(u.Encoded(s.encoder)))
	if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, u.Encoded(s.encoder)) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	h.work.Wait()
}

// Where Close ran out of time something may be written while the flusher is closed, and
// after that.
func TestAClosedFlusherWritesWhatIsAdded(t *testing.T) {
	const rounds, frames = 50, 100
	for range rounds {
		h := &Handler{config: Config{}.withDefaults(), flusher: newFlusher()}
		s, client := overSocket(t, h)
		var work sync.WaitGroup
		work.Go(func() {
			for range frames {
				s.out.sendDirect(pingFrame)
			}
			s.out.end(nil)
			s.out.wait()
			s.out.conn.Close()
		})
		work.Go(func() {
			for range frames {
				h.flusher.close()
			}
		})
		got, err := io.ReadAll(client)
		if want := bytes.Repeat(pingFrame, frames); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("read % x, %v", got, err)
		}
		work.Wait()
		h.flusher.close()
		if f := h.flusher; f.first != nil || f.busy != 0 || f.idle != 0 || f.waiting != 0 {
			t.Fatalf("in the end it is %+v", f)
		}
	}
}
