// Command board is a small stock board that several people edit at once, served
// by two nodes that have only a database and NSQ in common.
//
//	go run ./example/board
//
// It needs nothing installed: NSQ and SQLite are inside. With DATABASE_URL set
// it keeps its rows in PostgreSQL instead, where policies decide who sees what and
// an outbox announces every write.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second Ctrl-C ends the program at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// closeTimeout bounds how long closing the board may take.
const closeTimeout = 4 * time.Second

// run is the program. It returns its exit code when ctx has ended.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("board", flag.ContinueOnError)
	flags.SetOutput(stderr)
	node1 := flags.String("node1", defaultAddrs[0], "address of node 1; port 0 takes a free one")
	node2 := flags.String("node2", defaultAddrs[1], "address of node 2; port 0 takes a free one")
	verbose := flags.Bool("v", false, "log more than warnings")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "board: what is %q? It takes flags alone; see -h\n", flags.Arg(0))
		return 2
	}
	level := slog.LevelWarn
	if *verbose {
		level = slog.LevelDebug
	}
	config := Config{
		Addrs:       [2]string{*node1, *node2},
		DatabaseURL: os.Getenv("DATABASE_URL"),
		Logger:      slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})),
	}
	demo, err := StartDemo(ctx, config)
	if err != nil {
		return fail(stderr, err)
	}
	greet(stdout, demo, config)
	<-ctx.Done()
	fmt.Fprintln(stdout, "\nClosing …")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if err := demo.Close(ctx); err != nil {
		return fail(stderr, err)
	}
	return 0
}

// fail says in one line why the program ends.
func fail(stderr io.Writer, err error) int {
	fmt.Fprintln(stderr, "board:", strings.Join(strings.Fields(err.Error()), " "))
	return 1
}

func greet(stdout io.Writer, d *Demo, c Config) {
	rows := "SQLite, in a temporary file (set DATABASE_URL for PostgreSQL)"
	if c.DatabaseURL != "" {
		rows = "PostgreSQL, in the schema " + postgresSchema
	}
	fmt.Fprintf(stdout, `
  Entity Sync: the stock board

  Open these two side by side, and change something in one of them:

    %s   %s?as=manager
    %s   %s?as=guest

  The rows are in %s.
  Ctrl-C ends.

`, d.Nodes[0].Name, d.Nodes[0].URL(), d.Nodes[1].Name, d.Nodes[1].URL(), rows)
}
