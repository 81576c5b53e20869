package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/testkit"
)

const patience = testkit.Patience

// The two programs as a newcomer runs them: a row is changed, a line appears,
// also after the server was restarted.
func TestMinimalAndWatch(t *testing.T) {
	dir := t.TempDir()
	server, watcher := build(t, dir, "minimal", "."), build(t, dir, "watch", "../watch")
	addr := testkit.FreeAddr(t)

	serve := func() *exec.Cmd {
		cmd := exec.Command(server)
		cmd.Dir = dir // the database is there
		cmd.Env = append(os.Environ(), "ADDR="+addr, "NSQ_ADDR=")
		start(t, cmd)
		return cmd
	}
	first := serve()
	post(t, addr, "100", "Green tea")

	watch := exec.Command(watcher, "-url", "ws://"+addr+"/ws/entity-sync/", "items/100", "items/101")
	watch.Env = append(os.Environ(), "ENTITY_SYNC_SECRET="+canary.Mark)
	out, err := watch.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, watch)
	lines := read(out)

	expect(t, lines, `{"id":"100","name":"Green tea"}`)
	post(t, addr, "101", "Black tea")
	expect(t, lines, `{"id":"101","name":"Black tea"}`)
	post(t, addr, "100", "Oolong")
	expect(t, lines, `{"id":"100","name":"Oolong"}`)

	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait() // it was killed
	second := serve()
	post(t, addr, "100", "White tea")
	expect(t, lines, `{"id":"100","name":"White tea"}`)

	if err := second.Process.Signal(syscall.SIGTERM); err != nil { // with a client that watches
		t.Fatal(err)
	}
	if err := second.Wait(); err != nil {
		t.Errorf("the server after SIGTERM: %v, want exit code 0", err)
	}
	serve()
	post(t, addr, "100", "Mint tea")
	expect(t, lines, `{"id":"100","name":"Mint tea"}`)

	if err := watch.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := watch.Wait(); err != nil {
		t.Errorf("watch after Ctrl-C: %v, want exit code 0", err)
	}
}

func TestWatchWithoutKeys(t *testing.T) {
	out, err := exec.Command(build(t, t.TempDir(), "watch", "../watch")).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "there is nothing to watch") {
		t.Errorf("got %v and %q, want an exit code and why", err, out)
	}
}

func build(t *testing.T, dir, name, pkg string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if out, err := exec.Command("go", "build", "-o", path, pkg).CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", name, err, out)
	}
	return path
}

// start starts a program that does not outlive the test.
func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.Stderr = t.Output()
	if cmd.Stdout == nil {
		cmd.Stdout = t.Output()
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
}

// post changes an item, as soon as the server is there.
func post(t *testing.T, addr, id, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/items/"+id, strings.NewReader(url.Values{"name": {name}}.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Fatalf("posting: %s", resp.Status)
			}
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the server does not answer: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func read(r io.Reader) <-chan string {
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(r); s.Scan(); {
			lines <- s.Text()
		}
	}()
	return lines
}

// expect waits for a line with a row in it.
func expect(t *testing.T, lines <-chan string, want string) {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				t.Fatalf("the program ended before it printed %s", want)
			}
			t.Logf("printed %s", line)
			if strings.Contains(line, want) {
				return
			}
		case <-late:
			t.Fatalf("the program never printed %s", want)
		}
	}
}
