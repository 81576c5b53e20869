package nsqdtest

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/nsqio/nsq/nsqd"
)

// childVariable makes a test binary be an nsqd, as it says.
const childVariable = "ENTITY_SYNC_TEST_NSQD"

// dataVariable names the folder of such an nsqd.
const dataVariable = "ENTITY_SYNC_TEST_NSQD_DATA"

// Options are what an nsqd can be told. The zero value means nsqd's defaults.
type Options struct {
	MaxReadyCount int64 // --max-rdy-count
}

func (o Options) encode(addr string) string { return fmt.Sprint(addr, " ", o.MaxReadyCount) }

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
	addr, ready, _ := strings.Cut(what, " ")
	o := nsqd.NewOptions()
	o.TCPAddress = addr
	o.HTTPAddress = "127.0.0.1:0"
	o.HTTPSAddress = ""
	o.DataPath = os.Getenv(dataVariable)
	o.Logger = quiet{}
	if n, err := strconv.ParseInt(ready, 10, 64); err == nil && n > 0 {
		o.MaxRdyCount = n
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
