package nsqbus_test

import (
	"bufio"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/bridge/nsqbus"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
)

// A peer that takes every subscription and drops it at once is tried less and
// less often, like one that refuses: each time, all that clients watch is
// fetched.
func TestAPeerThatDropsSubscriptionsIsTriedLessAndLessOften(t *testing.T) {
	fake := newFake(t, func(c net.Conn, r *bufio.Reader) {
		handshake(t, c, r)
		r.ReadString('\n') // SUB
		frame(c, 0, "OK")
		c.Close()
	})
	logged := &record{}
	begin := time.Now()
	b := openWith(t, nsqbus.Config{Addrs: []string{fake}, Reconnect: 500 * time.Millisecond, Logger: slog.New(logged)})
	l := &hearing{}
	subscribe(t, b, "items", l)
	testkit.Until(t, "the 16th failure is logged", func() bool { return len(logged.values("failures")) >= 5 })
	if got := fmt.Sprint(logged.values("failures")); got != "[1 2 4 8 16]" {
		t.Errorf("logged the failures %v, want the 1st, 2nd, 4th, 8th, 16th", got)
	}
	// Fifteen waits, each up to 500 ms but for the first four: 3 s together, give
	// or take half a second. Each up to the first one's 50 ms: 0.4 s.
	if took := time.Since(begin); took < time.Second {
		t.Errorf("16 attempts within %v: the wait does not grow", took)
	}
	if l.live() < 16 {
		t.Errorf("subscribed %d times in 16 attempts: this test does not test what it says", l.live())
	}
}

// An nsqd that is gone is gone for all topics: that is not said for each.
func TestAnAbsentNSQDIsNotSaidForEachTopic(t *testing.T) {
	var dialled atomic.Int64
	fake := newFake(t, func(c net.Conn, _ *bufio.Reader) {
		dialled.Add(1)
		c.Close()
	})
	logged := &record{}
	b := openWith(t, nsqbus.Config{Addrs: []string{fake}, Reconnect: 20 * time.Millisecond, Logger: slog.New(logged)})
	const topics = 8
	for i := range topics {
		subscribe(t, b, shared.EntityType(fmt.Sprint("items", i)), &hearing{})
	}
	testkit.Until(t, "each topic was tried 20 times", func() bool { return dialled.Load() > 20*topics })
	got := logged.values("failures")
	for i, n := range got {
		if n != 1<<i {
			t.Fatalf("logged the failures %v, want the 1st, 2nd, 4th, 8th …, once", got)
		}
	}
	if len(got) < 4 {
		t.Errorf("logged the failures %v, want at least four", got)
	}
}

func TestErrorFramesAreLoggedSparingly(t *testing.T) {
	fake := newFake(t, func(c net.Conn, r *bufio.Reader) {
		handshake(t, c, r)
		frame(c, 0, "OK")
		for range 20 {
			frame(c, 1, "E_FIN_FAILED FIN 0123456789abcdef failed ID not in flight")
		}
		frame(c, 2, "timestam\x00\x010123456789abcdef"+"after the errors")
	})
	logged := &record{}
	b := openWith(t, nsqbus.Config{Addrs: []string{fake}, Logger: slog.New(logged)})
	l := &hearing{}
	subscribe(t, b, "items", l)
	testkit.Until(t, "what came after them was heard", func() bool { return l.heard() == "after the errors" })
	if got := fmt.Sprint(logged.values("so_far")); got != "[1 2 4 8 16]" {
		t.Errorf("20 errors were logged as %s, want the 1st, 2nd, 4th, 8th, 16th", got)
	}
}
