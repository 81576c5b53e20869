package socket

import (
	"errors"
	"log/slog"
	"os"
	"syscall"
	"testing"
	"time"
)

// waiter counts how often it is resumed.
type waiter struct{ resumed chan struct{} }

func (w *waiter) Resume() { w.resumed <- struct{}{} }

func (w *waiter) wait(t *testing.T) {
	t.Helper()
	select {
	case <-w.resumed:
	case <-time.After(30 * time.Second):
		t.Fatal("nobody is resumed")
	}
}

// Who is armed is resumed once when there is something to read, and again only when it is
// armed anew; and when the other end hangs up.
func TestAnArmedSocketResumesOnce(t *testing.T) {
	p := NewPoller(slog.New(slog.DiscardHandler))
	defer p.Close()
	server, client := sockets(t)
	s, w := New(server), &waiter{make(chan struct{}, 8)}
	arm := func() {
		t.Helper()
		if err := p.Arm(&s, w); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		arm()
		if _, err := client.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		w.wait(t)
		if _, err := server.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if n := len(w.resumed); n > 0 {
		t.Errorf("resumed %d times without being armed", n)
	}
	arm()
	client.Close()
	w.wait(t)
	if n := p.Waiting(); n != 1 {
		t.Errorf("%d are known, want 1", n)
	}
	p.Forget(&s, w)
	if n := p.Waiting(); n != 0 {
		t.Errorf("%d are known, want none", n)
	}
}

// What is closed stays closed.
func TestAClosedPollerArmsNobody(t *testing.T) {
	p := NewPoller(slog.New(slog.DiscardHandler))
	server, _ := sockets(t)
	s, w := New(server), new(waiter)
	if err := p.Arm(&s, w); err != nil {
		t.Fatal(err)
	}
	p.Close()
	if err := p.Arm(&s, w); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a closed poller says %v", err)
	}
	p.Close()
}

// A socket that the kernel does not take, because there are too many, is offered to it
// anew the next time.
func TestASocketThatCannotBeArmedMayBeLater(t *testing.T) {
	p := NewPoller(slog.New(slog.DiscardHandler))
	defer p.Close()
	s, w := new(Socket), new(waiter)
	file, err := os.Open(os.Args[0]) // of which an epoll takes none
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	number := int(file.Fd())
	if err := p.register(number, s, w); !errors.Is(err, syscall.EPERM) {
		t.Errorf("polling a file says %v", err)
	}
	server, _ := sockets(t)
	raw, err := server.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var armed error
	err = raw.Control(func(fd uintptr) { // now the same number is that of a socket
		armed = errors.Join(syscall.Dup3(int(fd), number, syscall.O_CLOEXEC), p.register(number, s, w))
	})
	if err := errors.Join(err, armed); err != nil {
		t.Error(err)
	}
}
