// Package nsqdtest runs a real nsqd: inside a test's process, where it can be
// stopped and started, or as a process of its own, where it can be frozen and
// killed.
package nsqdtest

import (
	"net/http"
	"testing"
	"time"

	"github.com/nsqio/nsq/nsqd"
)

// Daemon is an nsqd at one address, which may be stopped and started again.
type Daemon struct {
	Addr string // host:port of its TCP protocol

	dir    string
	daemon *nsqd.NSQD
	ended  chan error
}

// Start runs an nsqd on a free port until the test ends.
func Start(t testing.TB) *Daemon {
	t.Helper()
	d := &Daemon{Addr: "127.0.0.1:0", dir: t.TempDir()}
	d.Start(t)
	t.Cleanup(func() { d.Stop(t) })
	return d
}

// Start starts an nsqd that was stopped, at the same address.
func (d *Daemon) Start(t testing.TB) {
	t.Helper()
	if d.daemon != nil {
		return
	}
	daemon, err := newDaemon(d.Addr, d.dir)
	for end := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond) // the port is not free again at once
		daemon, err = newDaemon(d.Addr, d.dir)
	}
	if err != nil {
		t.Fatalf("starting nsqd at %s: %v", d.Addr, err)
	}
	d.daemon, d.Addr, d.ended = daemon, daemon.RealTCPAddr().String(), make(chan error, 1)
	go func() { d.ended <- daemon.Main() }()
	// Exit must not overtake Main. What Main starts last answers pings.
	answer, err := http.Get("http://" + daemon.RealHTTPAddr().String() + "/ping")
	if err != nil {
		t.Fatalf("nsqd does not answer: %v", err)
	}
	answer.Body.Close()
	http.DefaultClient.CloseIdleConnections()
}

// Stop ends the nsqd and every connection to it.
func (d *Daemon) Stop(t testing.TB) {
	t.Helper()
	if d.daemon == nil {
		return
	}
	d.daemon.Exit()
	if err := <-d.ended; err != nil {
		t.Logf("nsqd ended with %v", err)
	}
	d.daemon = nil
}
