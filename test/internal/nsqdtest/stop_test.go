package nsqdtest

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	Main()
	goleak.VerifyTestMain(m)
}

// Clients that come back in the moment in which a daemon ends, or that say nothing, do
// not keep it from ending, nor from starting again at its address.
func TestStopWithClients(t *testing.T) {
	for name, c := range map[string]struct {
		start func(testing.TB) *Daemon
		say   string
	}{
		"nsqd":       {Start, "  V2SUB topic channel#ephemeral\n"},
		"nsqlookupd": {StartLookupd, "  V1PING\n"},
	} {
		t.Run(name, func(t *testing.T) {
			d := c.start(t)
			addr := d.Addr
			done := make(chan struct{})
			var clients sync.WaitGroup
			for _, say := range []string{"", c.say, c.say} {
				clients.Go(func() { reconnect(addr, say, done) })
			}
			for range 5 {
				d.Stop(t)
				d.Start(t)
				if d.Addr != addr {
					t.Errorf("it is at %s after a restart, want %s", d.Addr, addr)
				}
			}
			close(done)
			d.Kill(t)
			clients.Wait()
		})
	}
}

// reconnect connects and says something, and again at once whenever it is cut off,
// until done.
func reconnect(addr, say string, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		default:
		}
		c, err := net.Dial("tcp", addr)
		if err != nil {
			time.Sleep(time.Millisecond) // not to keep a processor to itself
			continue
		}
		_, _ = io.WriteString(c, say)
		_, _ = io.Copy(io.Discard, c)
		c.Close()
	}
}
