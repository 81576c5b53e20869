// Command watch prints rows as they arrive, one a line:
//
//	go run ./example/minimal/watch -secret me items/100 items/101
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/entity-sync/entity-sync/shared"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run watches until ctx ends and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("watch", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: watch [-url ws://…] [-secret …] entity/id …")
		flags.PrintDefaults()
	}
	url := flags.String("url", "ws://127.0.0.1:8080/ws/entity-sync/", "where the server is")
	secret := flags.String("secret", "", "who you are to the server")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	keys, err := parseKeys(flags.Args())
	if err != nil {
		fmt.Fprintln(stderr, "watch:", err)
		flags.Usage()
		return 2
	}
	follow(ctx, stderr, func(live func()) error {
		return watch(ctx, *url, *secret, keys, stdout, func() {
			fmt.Fprintf(stderr, "watch: connected to %s; waiting for rows\n", *url)
			live()
		})
	})
	return 0
}

func parseKeys(args []string) (keys []shared.EntityKey, err error) {
	for _, arg := range args {
		entity, id, _ := strings.Cut(arg, "/")
		key := shared.EntityKey{Entity: shared.EntityType(entity), ID: id}
		if err := key.Validate(); err != nil {
			return nil, fmt.Errorf("%q is not entity/id: %w", arg, err)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("there is nothing to watch")
	}
	return keys, nil
}

const (
	firstWait   = 250 * time.Millisecond
	longestWait = 10 * time.Second
)

// follow calls connect until ctx ends, with a pause between that grows while it
// fails. The pause is random (full jitter), so that the clients of a server that
// was restarted do not come back all at once.
func follow(ctx context.Context, stderr io.Writer, connect func(live func()) error) {
	for most := firstWait; ; most = min(2*most, longestWait) {
		err := connect(func() { most = firstWait })
		if ctx.Err() != nil {
			return
		}
		pause := rand.N(most)
		fmt.Fprintf(stderr, "watch: %v; trying again in %v\n", err, pause.Round(time.Millisecond))
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}
