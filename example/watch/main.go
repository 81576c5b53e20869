// Command watch prints rows as they change, until Ctrl-C:
//
//	go run ./example/watch items/100 items/101
//	ENTITY_SYNC_SECRET=me go run ./example/watch -url wss://example.org/ws/entity-sync/ items/100 | jq .rows
//
// On a terminal it shows the differences, in colour. Into a pipe or a file it writes a JSON
// object a line. News of the connection go to standard error. The exit code is 0 after Ctrl-C,
// 1 if the server refuses the connection or every key, and 2 after a mistake in the arguments.
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
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/client"
)

const (
	exitRefused = 1
	exitUsage   = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run watches until ctx ends or there is nothing to wait for, and returns the exit
// code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("watch", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: watch [-url ws://…] [-secret-env NAME] [-format auto|json|diff] entity/id …")
		flags.PrintDefaults()
	}
	url := flags.String("url", "ws://127.0.0.1:8080/ws/entity-sync/", "where the server is")
	secret := flags.String("secret-env", "ENTITY_SYNC_SECRET", "the environment `variable` that says who you are to the server")
	format := flags.String("format", "auto", "diff, json, or auto: diff on a terminal, json elsewhere")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return exitUsage
	}
	c, keys, print, err := prepare(flags.Args(), *url, *format, os.Getenv(*secret), stdout)
	if err != nil {
		fmt.Fprintln(stderr, "watch:", err)
		flags.Usage()
		return exitUsage
	}
	defer c.Close()
	return watch(ctx, c, keys, print, &messages{out: stderr})
}

// prepare makes the client, the keys and the printer that the arguments ask for.
func prepare(args []string, url, format, secret string, stdout io.Writer) (*client.Client, []shared.EntityKey, printer, error) {
	keys, err := parseKeys(args)
	if err != nil {
		return nil, nil, nil, err
	}
	print, err := printerFor(format, stdout)
	if err != nil {
		return nil, nil, nil, err
	}
	c, err := client.New(url, client.Options{Secret: secret, Logger: slog.New(slog.DiscardHandler)})
	return c, keys, print, err
}

func parseKeys(args []string) (keys []shared.EntityKey, err error) {
	for _, arg := range args {
		entity, id, _ := strings.Cut(arg, "/")
		key := shared.EntityKey{Entity: shared.EntityType(entity), ID: id}
		if err := key.Validate(); err != nil {
			return nil, fmt.Errorf("%q is not entity/id: %w", arg, err)
		}
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("there is nothing to watch")
	}
	return keys, nil
}

// watch prints the changes of the keys and of the connection.
func watch(ctx context.Context, c *client.Client, keys []shared.EntityKey, print printer, say *messages) int {
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	updates := make(chan client.Update)
	for _, key := range keys {
		sub := c.Subscribe(key)
		work.Go(func() {
			defer sub.Close()
			for u := range sub.Updates(ctx) {
				select {
				case updates <- u:
				case <-ctx.Done():
				}
			}
		})
	}
	work.Go(func() {
		for s := range c.Statuses(ctx) {
			say.connection(s)
		}
	})
	return follow(ctx, len(keys), updates, print, say)
}

// follow prints updates until ctx ends or all keys are denied.
func follow(ctx context.Context, keys int, updates <-chan client.Update, print printer, say *messages) int {
	shown := make(map[shared.EntityKey]client.Update)
	denied := make(map[shared.EntityKey]bool)
	for len(denied) < keys {
		select {
		case <-ctx.Done():
			return 0
		case u := <-updates:
			delete(denied, u.Key)
			switch {
			case u.State == client.Denied:
				denied[u.Key] = true
				say.denied(u)
			case u.Rows == nil && !u.Deleted, sameContent(u, shown[u.Key]):
				continue // only the state has changed
			default:
				if err := print(shown[u.Key], u); err != nil {
					say.line("printing: %v", err)
					return exitRefused
				}
			}
			shown[u.Key] = u
		}
	}
	return exitRefused
}

func sameContent(a, b client.Update) bool { return a.Version == b.Version && a.Deleted == b.Deleted }

// messages go to the person at the terminal. A message is not repeated at once.
type messages struct {
	mu   sync.Mutex
	out  io.Writer
	last string
}

func (m *messages) line(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if line := fmt.Sprintf("watch: "+format+"\n", args...); line != m.last {
		m.last = line
		_, _ = io.WriteString(m.out, line) // an error cannot be reported elsewhere
	}
}

func (m *messages) connection(s client.Status) {
	if s.Err == nil {
		m.line("%s", s.State)
		return
	}
	m.line("%s: %s", s.State, printable(s.Err.Error()))
}

func (m *messages) denied(u client.Update) {
	m.line("%s/%s is denied: %s", u.Key.Entity, u.Key.ID, printable(u.Err.Error()))
}
