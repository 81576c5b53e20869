package main

import (
	"fmt"
	"os"
	"sync/atomic"

	"github.com/nsqio/nsq/nsqd"

	"github.com/entity-sync/entity-sync/example/internal/embedded"
)

// Broker is an nsqd inside this program, so that the board needs nothing
// installed. A real system runs nsqd by itself and names it in es.Config.NSQAddr.
type Broker struct {
	addr string
	dir  string
	data string // the folder of its files; empty if it is yet to be made

	nsqd    *embedded.NSQD
	running atomic.Bool
}

// StartBroker starts nsqd on a free port of this machine, with its files in dir.
func StartBroker(dir string) (*Broker, error) {
	b := &Broker{addr: "127.0.0.1:0", dir: dir}
	if err := b.Start(); err != nil {
		return nil, err
	}
	return b, nil
}

// Running reports whether nsqd runs. Unlike the rest it may be called at any time,
// from any goroutine.
func (b *Broker) Running() bool { return b.running.Load() }

// Addr is the address for publishers and subscribers.
func (b *Broker) Addr() string { return b.addr }

// Start starts nsqd again after Stop, at the same address and with the same files. It does
// nothing if nsqd runs.
func (b *Broker) Start() (err error) {
	if b.nsqd != nil {
		return nil
	}
	if b.data == "" {
		if b.data, err = os.MkdirTemp(b.dir, "nsqd-"); err != nil {
			return fmt.Errorf("making a folder for nsqd: %w", err)
		}
	}
	opts := nsqd.NewOptions()
	opts.TCPAddress = b.addr
	opts.HTTPAddress, opts.HTTPSAddress = "", "" // the board does not use HTTP
	opts.DataPath = b.data
	opts.Logger = silent{}
	n, err := embedded.Start(opts)
	if err != nil {
		b.data = "" // an nsqd that could not start may keep its folder locked
		return fmt.Errorf("starting nsqd: %w", err)
	}
	b.addr, b.nsqd = n.Addr(), n
	b.running.Store(true)
	return nil
}

// Stop ends nsqd and returns when all of it has ended. It returns an error if nsqd does not
// end; the nodes have then lost it all the same, and Start starts another. A second Stop does
// nothing.
func (b *Broker) Stop() error {
	if b.nsqd == nil {
		return nil
	}
	b.running.Store(false)
	err := b.nsqd.Stop()
	if err != nil {
		b.data = "" // this nsqd may still use the folder
	}
	b.nsqd = nil
	return err
}

// silent is nsqd's logger. The library logs what happens to connections as well, from the end
// that matters here.
type silent struct{}

// Output implements nsqd.Logger.
func (silent) Output(int, string) error { return nil }
