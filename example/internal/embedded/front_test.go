package embedded

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/internal/testkit"
)

// startFront starts a front, and a server that handles each connection behind it.
func startFront(t *testing.T, handle func(*net.TCPConn)) *front {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			handle(c.(*net.TCPConn)) // one after the other
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-ended
	})
	f, err := listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.forward(l.Addr().String())
	return f
}

func closeFront(t *testing.T, f *front) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := f.close(ctx); err != nil {
		t.Error(err)
	}
}

// All that is said arrives on both sides, and so does the end.
func TestFrontForwards(t *testing.T) {
	f := startFront(t, func(c *net.TCPConn) {
		defer c.Close()
		_, _ = io.Copy(c, c)
	})
	defer closeFront(t, f)
	said := bytes.Repeat([]byte("0123456789abcdef"), 16<<10)
	c := dial(t, f.addr().String()).(*net.TCPConn)
	go func() { // until all is said
		_, _ = c.Write(said)
		_ = c.CloseWrite()
	}()
	if heard, err := io.ReadAll(c); err != nil || !bytes.Equal(heard, said) {
		t.Errorf("got %d bytes and %v, want the %d that were said", len(heard), err, len(said))
	}
}

// A client that is cut off is gone for the server, too, though the server was talking.
func TestFrontClientCutOff(t *testing.T) {
	ended := make(chan struct{})
	f := startFront(t, func(c *net.TCPConn) {
		defer c.Close()
		go func() {
			defer close(ended)
			_, _ = io.Copy(io.Discard, c)
		}()
		for chunk := make([]byte, 4<<10); ; {
			select {
			case <-ended:
				return
			default:
				_, _ = c.Write(chunk)
			}
		}
	})
	defer closeFront(t, f)
	c := dial(t, f.addr().String()).(*net.TCPConn)
	if _, err := io.ReadFull(c, make([]byte, 1<<10)); err != nil {
		t.Fatal(err)
	}
	_ = c.SetLinger(0)
	c.Close()
	<-ended
}

func TestFrontWithoutServer(t *testing.T) {
	nobody := testkit.FreeAddr(t)
	f, err := listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.forward(nobody)
	defer closeFront(t, f)
	if n, err := dial(t, f.addr().String()).Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("read %d bytes and no error, want the end", n)
	}
}

// A server that does not close its end is not waited for longer than the context says.
func TestFrontCloseIsBounded(t *testing.T) {
	forwarded, release := make(chan struct{}), make(chan struct{})
	f := startFront(t, func(c *net.TCPConn) {
		defer c.Close()
		_, _ = io.ReadFull(c, make([]byte, 1))
		close(forwarded)
		<-release
	})
	defer close(release)
	_, _ = dial(t, f.addr().String()).Write([]byte{1})
	<-forwarded
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := f.close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("closing it: %v, want that the deadline has passed", err)
	}
}
