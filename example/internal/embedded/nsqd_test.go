package embedded

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nsqio/nsq/nsqd"

	"github.com/entity-sync/entity-sync/internal/canary"
)

// start starts an nsqd at an address, with its files in a folder.
func start(t *testing.T, addr, dir string) *NSQD {
	t.Helper()
	o := nsqd.NewOptions()
	o.TCPAddress, o.HTTPAddress, o.HTTPSAddress, o.DataPath = addr, "", "", dir
	o.Logger = log.New(canary.Output(t), "", log.Lmicroseconds)
	o.LogLevel = nsqd.LOG_ERROR
	n, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func stop(t *testing.T, n *NSQD) {
	t.Helper()
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// subscribe is what a node says first, as far as nsqd needs it.
const subscribe = "  V2SUB topic channel#ephemeral\n"

// ok is nsqd's answer: a frame of size 6, of type 0.
const ok = "\x00\x00\x00\x06\x00\x00\x00\x00OK"

func say(t *testing.T, c net.Conn, what, answer string) {
	t.Helper()
	if _, err := io.WriteString(c, what); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(answer))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != answer {
		t.Fatalf("nsqd answered %q with %q (%v), want %q", what, got, err, answer)
	}
}

// A client that connected and said nothing yet is what nsqd's Exit would wait for.
func TestStopEndsEveryConnection(t *testing.T) {
	n := start(t, "127.0.0.1:0", t.TempDir())
	silent, subscribed := dial(t, n.Addr()), dial(t, n.Addr())
	say(t, subscribed, subscribe, ok)
	stop(t, n)
	for name, c := range map[string]net.Conn{"silent": silent, "subscribed": subscribed} {
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("the %s client read %d bytes and no error after Stop, want the end", name, n)
		}
	}
	if c, err := net.Dial("tcp", n.Addr()); err == nil {
		c.Close()
		t.Error("a client could connect after Stop")
	}
}

// switches is how often nsqd is stopped and started: the moment that matters is met a
// few times in a hundred.
const switches = 500

// Clients that come back at once, as nodes do, neither keep nsqd from ending nor make
// it panic, and it is at its address again at once.
func TestStopWhileClientsReconnect(t *testing.T) {
	dir := t.TempDir()
	n := start(t, "127.0.0.1:0", dir)
	addr := n.Addr()
	done := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() { reconnect(addr, done) })
	}
	for i := range switches {
		begin := time.Now()
		if err := n.Stop(); err != nil {
			t.Errorf("stopping for the %d. time: %v after %v", i+1, err, time.Since(begin))
			break
		}
		n = start(t, addr, dir)
	}
	close(done)
	stop(t, n)
	clients.Wait()
}

// reconnect subscribes, and again at once whenever it is cut off, until done.
func reconnect(addr string, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		default:
		}
		c, err := net.Dial("tcp", addr)
		if err != nil {
			time.Sleep(100 * time.Microsecond) // not to keep a processor to itself
			continue
		}
		_, _ = io.WriteString(c, subscribe)
		_, _ = io.Copy(io.Discard, c)
		c.Close()
	}
}

// What was published and not read is there again after a restart, as with the program.
func TestRestartKeepsMessages(t *testing.T) {
	dir := t.TempDir()
	n := start(t, "127.0.0.1:0", dir)
	addr := n.Addr()
	const body = "hello"
	say(t, dial(t, addr), "  V2SUB topic channel\n", ok) // makes the channel, and takes nothing
	say(t, dial(t, addr), fmt.Sprintf("  V2PUB topic\n\x00\x00\x00%c%s", len(body), body), ok)
	stop(t, n)
	n = start(t, addr, dir)
	c := dial(t, addr)
	say(t, c, "  V2SUB topic channel\n", ok)
	if _, err := io.WriteString(c, "RDY 1\n"); err != nil {
		t.Fatal(err)
	}
	const before = 4 + 4 + 8 + 2 + 16 // size, type, time, attempts, id
	message := make([]byte, before+len(body))
	if _, err := io.ReadFull(c, message); err != nil || string(message[before:]) != body {
		t.Errorf("got %q (%v), want %q", message, err, body)
	}
	stop(t, n)
}

// An nsqd that does not end is said not to, and another can be had at its address.
func TestStopIsBounded(t *testing.T) {
	n := start(t, "127.0.0.1:0", t.TempDir())
	addr := n.Addr()
	held := dial(t, n.Behind())
	if err := n.Stop(); !errors.Is(err, ErrStuck) {
		t.Errorf("stopping an nsqd that is held up: %v, want ErrStuck", err)
	}
	stop(t, start(t, addr, t.TempDir()))
	held.Close()
	<-n.exited
}

func TestStartWhereAddressIsTaken(t *testing.T) {
	first := start(t, "127.0.0.1:0", t.TempDir())
	defer stop(t, first)
	o := nsqd.NewOptions()
	o.TCPAddress, o.HTTPAddress, o.DataPath, o.Logger = first.Addr(), "", t.TempDir(), log.New(canary.Output(t), "", 0)
	if n, err := Start(o); err == nil {
		stop(t, n)
		t.Error("two nsqds have one address")
	}
}

// A folder that another nsqd has leaves nothing at the address.
func TestStartWhereFolderIsTaken(t *testing.T) {
	dir := t.TempDir()
	first := start(t, "127.0.0.1:0", dir)
	defer stop(t, first)
	free := start(t, "127.0.0.1:0", t.TempDir())
	stop(t, free)
	o := nsqd.NewOptions()
	o.TCPAddress, o.HTTPAddress, o.DataPath, o.Logger = free.Addr(), "", dir, log.New(canary.Output(t), "", 0)
	if n, err := Start(o); err == nil {
		stop(t, n)
		t.Fatal("two nsqds have one folder")
	}
	if c, err := net.Dial("tcp", free.Addr()); err == nil {
		c.Close()
		t.Error("something still listens")
	}
}

// What cannot be read is left as it is, to be mended by hand.
func TestStartWithBadMetadata(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, metadataFile)
	const bad = `{"topics":[`
	if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
		t.Fatal(err)
	}
	o := nsqd.NewOptions()
	o.TCPAddress, o.HTTPAddress, o.DataPath, o.Logger = "127.0.0.1:0", "", dir, log.New(canary.Output(t), "", 0)
	if n, err := Start(o); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v, want something about %s", err, file)
		if err == nil {
			stop(t, n)
		}
	}
	if now, err := os.ReadFile(file); err != nil || string(now) != bad {
		t.Errorf("the file has %q (%v), want %q", now, err, bad)
	}
}
