//go:build unix

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/socket"
)

// process is the program as a person starts it.
type process struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	urls   []string // from the banner
	rest   chan string

	starting time.Duration // how long it took until the banner was said
}

// built is the program, which all tests share.
var built = sync.OnceValues(func() (path string, err error) {
	dir, err := os.MkdirTemp("", "board-")
	if err != nil {
		return "", err
	}
	atEnd = append(atEnd, func() error { return os.RemoveAll(dir) })
	path = filepath.Join(dir, "board")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the board: %w\n%s", err, out)
	}
	return path, nil
})

// buildBoard returns the program.
func buildBoard(t *testing.T) string {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// boardCommand is the program, in a folder that is not its own, with temp for its
// temporary files.
func boardCommand(program, temp string, env []string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), append([]string{"TMPDIR=" + temp, "DATABASE_URL="}, env...)...)
	return cmd
}

// startBoard starts the program and waits for its banner.
func startBoard(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, rest: make(chan string, 1)}
	begin := time.Now()
	cmd.Stderr = io.MultiWriter(&p.stderr, t.Output())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			<-p.rest
			_ = cmd.Wait()
		}
	})
	watchdog := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() }) // ends the scan too
	defer watchdog.Stop()
	url := regexp.MustCompile(`http://[^?\s]+`)
	scanner := bufio.NewScanner(io.TeeReader(out, t.Output()))
	for scanner.Scan() {
		if u := url.FindString(scanner.Text()); u != "" {
			p.urls = append(p.urls, u)
		}
		if strings.Contains(scanner.Text(), "Ctrl-C") {
			p.starting = time.Since(begin)
			go func() { // until the program ends
				for scanner.Scan() {
				}
				close(p.rest)
			}()
			return p
		}
	}
	_ = cmd.Wait()
	t.Fatalf("the program ended without a banner: %v\n%s", cmd.ProcessState, &p.stderr)
	return nil
}

// stop sends a signal and returns how long the program took to end.
func (p *process) stop(t *testing.T, signal os.Signal) time.Duration {
	t.Helper()
	start := time.Now()
	if err := p.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	defer watchdog.Stop()
	<-p.rest
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("after %v the program ended with %v, want exit code 0\n%s", signal, err, &p.stderr)
	}
	return time.Since(start)
}

func TestProcessEndsCleanly(t *testing.T) {
	program := buildBoard(t)
	for name, c := range map[string]struct {
		signal      os.Signal
		databaseURL string
	}{
		"terminated":             {syscall.SIGTERM, ""},
		"interrupted":            {os.Interrupt, ""},
		"terminated, PostgreSQL": {syscall.SIGTERM, pgtest.Shared(t).NewDatabase(t).URL()},
	} {
		t.Run(name, func(t *testing.T) {
			temp := t.TempDir()
			p := startBoard(t, boardCommand(program, temp, []string{"DATABASE_URL=" + c.databaseURL}, "-node1", "127.0.0.1:0", "-node2", "127.0.0.1:0"))
			if len(p.urls) != 2 {
				t.Fatalf("the banner names %q, want two addresses", p.urls)
			}
			// With a client on it, which is told that it is a restart.
			w := &watcher{Conn: socket.DialV2(t, p.urls[0]+"ws/entity-sync/"), t: t}
			w.Secret(guestSecret)
			w.subscribe(boardEntity, "all")
			w.until("the list", func(m message) bool { return m.Action == "update" })
			left := make(chan error, 1)
			go func() {
				_, _, err := w.ReadMessage()
				w.Close()
				left <- err
			}()
			// On a machine where all takes long it starts slowly as well.
			if took, limit := p.stop(t, c.signal), max(5*time.Second, 2*p.starting); took > limit {
				t.Errorf("ending took %v, want less than %v", took, limit)
			}
			if err := <-left; !websocket.IsCloseError(err, websocket.CloseServiceRestart) {
				t.Errorf("the client got %v, want close code 1012", err)
			}
			if files, err := os.ReadDir(temp); err != nil || len(files) > 0 {
				t.Errorf("left behind: %v %v", files, err)
			}
			if p.stderr.Len() > 0 {
				t.Errorf("logged, although nothing went wrong:\n%s", &p.stderr)
			}
		})
	}
}

// failure runs a program that cannot start, and returns what it says.
func failure(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = io.MultiWriter(&stderr, t.Output())
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("the program ended with %v, want exit code 1", err)
	}
	said := stderr.String()
	if strings.Count(said, "\n") != 1 {
		t.Errorf("the program said %q, want one line", said)
	}
	return said
}

// takePort takes a port below the range from which systems choose one themselves, so that
// the ports near it stay free.
func takePort(t *testing.T) string {
	t.Helper()
	for port := 20_000; port < 30_000; port++ {
		if l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port)); err == nil {
			t.Cleanup(func() { l.Close() })
			return l.Addr().String()
		}
	}
	t.Fatal("no port from 20000 to 30000 is free")
	return ""
}

// The program says which command works, and that command does.
func TestProcessPortTaken(t *testing.T) {
	addr, temp, program := takePort(t), t.TempDir(), buildBoard(t)
	for name, c := range map[string]struct {
		args []string
		says string // before the command
		with string // the flags of the command, as a regular expression
	}{
		"of node 1": {
			[]string{"-node1", addr, "-node2", "127.0.0.1:0"},
			"board: node 1 cannot listen on " + addr + ": the port is taken",
			`-node1 127\.0\.0\.1:\d+ -node2 127\.0\.0\.1:0`,
		},
		"of node 2": {
			[]string{"-node1", "127.0.0.1:0", "-node2", addr},
			"board: node 2 cannot listen on " + addr + ": the port is taken",
			`-node1 127\.0\.0\.1:0 -node2 127\.0\.0\.1:\d+`,
		},
		"of both": {
			[]string{"-node1", addr, "-node2", addr},
			"board: node 1 cannot listen on " + addr + ": the port is taken",
			`-node1 127\.0\.0\.1:\d+ -node2 127\.0\.0\.1:\d+`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			said := failure(t, boardCommand(program, temp, nil, c.args...))
			command := regexp.MustCompile(`^` + regexp.QuoteMeta(c.says) + `; try make run FLAGS="(` + c.with + `)"\n$`).FindStringSubmatch(said)
			if command == nil {
				t.Fatalf("the program said %q, want %q and a command with %s", said, c.says, c.with)
			}
			if files, err := os.ReadDir(temp); err != nil || len(files) > 0 {
				t.Errorf("left behind: %v %v", files, err)
			}
			p := startBoard(t, boardCommand(program, temp, nil, strings.Fields(command[1])...))
			p.stop(t, syscall.SIGTERM)
		})
	}
}

func TestProcessDatabaseUnreachable(t *testing.T) {
	addr := testkit.FreeAddr(t) // nobody is there
	temp := t.TempDir()
	program := buildBoard(t)
	for name, url := range map[string]string{
		"nobody there": "postgres://me:" + canary.Mark + "@" + addr + "/board",
		"no address":   "postgres://me:" + canary.Mark + "@[::bad/board",
	} {
		t.Run(name, func(t *testing.T) {
			said := failure(t, boardCommand(program, temp, []string{"DATABASE_URL=" + url}, "-node1", "127.0.0.1:0", "-node2", "127.0.0.1:0"))
			if !strings.Contains(said, "DATABASE_URL") || strings.Contains(said, canary.Mark) {
				t.Errorf("the program said %q, want something about DATABASE_URL without the password", said)
			}
			if files, err := os.ReadDir(temp); err != nil || len(files) > 0 {
				t.Errorf("left behind: %v %v", files, err)
			}
		})
	}
}
