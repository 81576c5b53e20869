package nsqdtest

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/nsqio/nsq/nsqd"
)

// childVariable makes a test binary be an nsqd, as it says.
const childVariable = "ENTITY_SYNC_TEST_NSQD"

// Options are what an nsqd can be told. The zero value means nsqd's defaults.
type Options struct {
	MaxReadyCount int64    // --max-rdy-count
	TLSCert       string   // --tls-cert, a file; with it TLS is required
	TLSKey        string   // --tls-key, a file
	TLSClientCA   string   // --tls-root-ca-file; with it clients must have a certificate
	AuthAddrs     []string // --auth-http-address
}

// child is what a child process is told.
type child struct {
	Addr, Data string
	Options    Options
}

// Main must be called first in TestMain. In a child process it is an nsqd and
// never returns.
func Main() {
	what := os.Getenv(childVariable)
	if what == "" {
		return
	}
	if err := beDaemon(what); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func beDaemon(what string) error {
	var c child
	if err := json.Unmarshal([]byte(what), &c); err != nil {
		return err
	}
	o := nsqd.NewOptions()
	o.TCPAddress = c.Addr
	o.HTTPAddress = "127.0.0.1:0"
	o.HTTPSAddress = ""
	o.DataPath = c.Data
	o.Logger = quiet{}
	o.AuthHTTPAddresses = c.Options.AuthAddrs
	if n := c.Options.MaxReadyCount; n > 0 {
		o.MaxRdyCount = n
	}
	if c.Options.TLSCert != "" {
		o.TLSCert, o.TLSKey, o.TLSRequired = c.Options.TLSCert, c.Options.TLSKey, nsqd.TLSRequired
		o.TLSMinVersion = tls.VersionTLS12
	}
	if c.Options.TLSClientCA != "" {
		o.TLSRootCAFile, o.TLSClientAuthPolicy = c.Options.TLSClientCA, "require-verify"
	}
	daemon, err := nsqd.New(o)
	if err != nil {
		return err
	}
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	go func() {
		<-terminate
		daemon.Exit()
	}()
	go func() {
		// Ends with the test, however that ends: its end of the pipe closes.
		os.Stdin.Read(make([]byte, 1))
		terminate <- syscall.SIGTERM
	}()
	fmt.Println(daemon.RealTCPAddr())
	return daemon.Main()
}

type quiet struct{}

func (quiet) Output(int, string) error { return nil }
