// Command nsqd is a real nsqd for development, on machines with Go and without nsqd.
//
//	go run ./example/nsqd
//
// In production run nsqd itself: https://nsq.io/deployment/installing.html.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/nsqio/nsq/nsqd"

	"github.com/entity-sync/entity-sync/example/internal/embedded"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second Ctrl-C ends the program at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// config is the flags, which are named like nsqd's own.
type config struct {
	tcpAddress, httpAddress string
	dataPath                string // empty for a temporary folder
	verbose                 bool
}

// run is the program. It returns its exit code when ctx has ended.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var c config
	flags := flag.NewFlagSet("nsqd", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&c.tcpAddress, "tcp-address", "127.0.0.1:4150", "address for publishers and subscribers; port 0 takes a free one")
	flags.StringVar(&c.httpAddress, "http-address", "127.0.0.1:4151", "address of its statistics and its other HTTP endpoints; empty for none")
	flags.StringVar(&c.dataPath, "data-path", "", "folder that keeps topics and messages over a restart; a temporary one if empty")
	flags.BoolVar(&c.verbose, "v", false, "log more than warnings")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "nsqd: what is %q? It takes flags alone; see -h\n", flags.Arg(0))
		return 2
	}
	if err := serve(ctx, c, stdout, stderr); err != nil {
		fmt.Fprintln(stderr, "nsqd:", err)
		return 1
	}
	return 0
}

// serve runs an nsqd until ctx has ended.
func serve(ctx context.Context, c config, stdout, stderr io.Writer) (err error) {
	dir, remove, err := folder(c.dataPath)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	o := nsqd.NewOptions()
	o.TCPAddress, o.HTTPAddress, o.HTTPSAddress, o.DataPath = c.tcpAddress, c.httpAddress, "", dir
	o.Logger, o.LogLevel = log.New(stderr, "nsqd: ", log.LstdFlags), nsqd.LOG_WARN
	if c.verbose {
		o.LogLevel = nsqd.LOG_INFO
	}
	n, err := embedded.Start(o)
	if err != nil {
		return startError(c, err)
	}
	greet(stdout, n, c)
	select {
	case <-ctx.Done():
		fmt.Fprintln(stdout, "\nClosing …")
	case <-n.Ended(): // Stop returns why
	}
	return n.Stop()
}

// folder returns the folder for nsqd's files, and the function that removes it if it is
// temporary.
func folder(dataPath string) (dir string, remove func() error, err error) {
	if dataPath != "" {
		return dataPath, func() error { return nil }, os.MkdirAll(dataPath, 0o750)
	}
	dir, err = os.MkdirTemp("", "entity-sync-nsqd-")
	return dir, func() error { return os.RemoveAll(dir) }, err
}

func startError(c config, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is taken, perhaps by an nsqd: use that one, or choose another address with -tcp-address", c.tcpAddress)
	}
	return fmt.Errorf("it cannot start: %w (-h lists what can be chosen)", err)
}

func greet(stdout io.Writer, n *embedded.NSQD, c config) {
	statistics := "none: see -http-address"
	if c.httpAddress != "" {
		statistics = "http://" + n.HTTPAddr() + "/stats"
	}
	fmt.Fprintf(stdout, `
  nsqd for development. Tell the nodes where it is:

    export NSQ_ADDR=%s

  Statistics: %s
  Messages:   %s

  It differs from a production nsqd: by default it listens on this machine alone, it
  has no TLS and no authentication, its clients all seem to be on this machine, and
  it registers with no nsqlookupd. In production run nsqd itself:
  https://nsq.io/deployment/installing.html

  Ctrl-C ends.

`, n.Addr(), statistics, cmp.Or(c.dataPath, "in a temporary folder, gone at the end (-data-path keeps them)"))
}
