package nsqdtest

import (
	"crypto/tls"
	"fmt"
	"log"
	"os"

	"github.com/nsqio/nsq/nsqd"
	"github.com/nsqio/nsq/nsqlookupd"

	"github.com/entity-sync/entity-sync/internal/testkit/process"
)

// role is that of a process which is a daemon of NSQ.
const role = "nsq"

// Options are what an nsqd can be told. The zero value means nsqd's defaults.
type Options struct {
	Host          string   // where it listens, on a free port; 127.0.0.1 by default
	MaxReadyCount int64    // --max-rdy-count
	MaxMsgSize    int64    // --max-msg-size
	TLSCert       string   // --tls-cert, a file; with it TLS is required
	TLSKey        string   // --tls-key, a file
	TLSClientCA   string   // --tls-root-ca-file; with it clients must have a certificate
	AuthAddrs     []string // --auth-http-address
	LookupAddrs   []string // --lookupd-tcp-address
}

// child is what a child process is told.
type child struct {
	Lookupd  bool   // be an nsqlookupd, not an nsqd
	Addr     string // of its TCP protocol
	HTTPAddr string
	Data     string
	Options  Options
}

// daemon is what nsqd and nsqlookupd have in common.
type daemon interface {
	Main() error
	Exit()
}

// Main must be called first in TestMain. In a child process it is a daemon and
// never returns.
func Main() { process.Main(role, beDaemon) }

func beDaemon(c child) error {
	start := c.nsqd
	if c.Lookupd {
		start = c.nsqlookupd
	}
	d, addrs, err := start()
	if err != nil {
		return err
	}
	terminated := process.Terminated()
	go func() {
		<-terminated
		// A client may keep Exit waiting for ever. This process does not wait for Exit:
		// Main returns as soon as a port is closed, and the process ends with Main.
		d.Exit()
	}()
	fmt.Println(addrs)
	return d.Main()
}

// nsqd returns an nsqd and its addresses.
func (c child) nsqd() (daemon, string, error) {
	o := nsqd.NewOptions()
	o.TCPAddress = c.Addr
	o.HTTPAddress = c.HTTPAddr
	o.HTTPSAddress = ""
	o.BroadcastAddress = "127.0.0.1"
	o.DataPath = c.Data
	o.Logger = log.New(os.Stderr, "", log.Lmicroseconds)
	o.AuthHTTPAddresses = c.Options.AuthAddrs
	o.NSQLookupdTCPAddresses = c.Options.LookupAddrs
	if n := c.Options.MaxReadyCount; n > 0 {
		o.MaxRdyCount = n
	}
	if n := c.Options.MaxMsgSize; n > 0 {
		o.MaxMsgSize = n
	}
	if c.Options.TLSCert != "" {
		o.TLSCert, o.TLSKey, o.TLSRequired = c.Options.TLSCert, c.Options.TLSKey, nsqd.TLSRequired
		o.TLSMinVersion = tls.VersionTLS12
	}
	if c.Options.TLSClientCA != "" {
		o.TLSRootCAFile, o.TLSClientAuthPolicy = c.Options.TLSClientCA, "require-verify"
	}
	d, err := nsqd.New(o)
	if err != nil {
		return nil, "", err
	}
	return d, fmt.Sprint(d.RealTCPAddr(), " ", d.RealHTTPAddr()), nil
}

// nsqlookupd returns an nsqlookupd and its addresses.
func (c child) nsqlookupd() (daemon, string, error) {
	o := nsqlookupd.NewOptions()
	o.TCPAddress, o.HTTPAddress, o.BroadcastAddress = c.Addr, c.HTTPAddr, "127.0.0.1"
	o.Logger = log.New(os.Stderr, "", log.Lmicroseconds)
	d, err := nsqlookupd.New(o)
	if err != nil {
		return nil, "", err
	}
	return d, fmt.Sprint(d.RealTCPAddr(), " ", d.RealHTTPAddr()), nil
}
