package socket

import (
	"bytes"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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
func TestTryWriteLosesNothing(t *testing.T) {
	server, client := sockets(t)
	if err := client.SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	s, room := New(server), NewScratch()
	if err := server.SetWriteBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	// write returns how much the socket did not take.
	write := func(t rapid.TB, sizes ...int) int {
		var frames net.Buffers
		for i, size := range sizes {
			frames = append(frames, bytes.Repeat([]byte{byte(i)}, size))
		}
		want := slices.Concat(frames...)
		rest, err := s.TryWrite(room, slices.Clone(frames))
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

// Trying to write to a socket that is closed fails.
func TestTryWriteToAClosedSocketFails(t *testing.T) {
	server, client := sockets(t)
	s, room := New(server), NewScratch()
	client.SetLinger(0)
	client.Close() // with a reset
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := s.TryWrite(room, net.Buffers{[]byte("x")}); err != nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the reset does not come")
		}
	}
	server.Close()
	if _, err := s.TryWrite(room, net.Buffers{[]byte("x")}); err == nil {
		t.Error("a closed socket is written to")
	}
}

// Another goroutine may be waiting for room in the socket. All other clients would wait
// as well if the flusher did.
func TestTryWriteWaitsForNoOtherWriter(t *testing.T) {
	server, client := sockets(t)
	s := New(server)
	writing, stop := make(chan bool), make(chan bool)
	var other sync.WaitGroup
	other.Go(func() {
		_ = s.raw.Write(func(uintptr) bool {
			writing <- true
			<-stop
			return true
		})
	})
	<-writing
	attempted := make(chan error, 1)
	other.Go(func() {
		_, err := s.TryWrite(NewScratch(), net.Buffers{[]byte("x")})
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
