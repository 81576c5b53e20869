package test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/bridge/nsqbus"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

// build compiles a command of this module.
var build = func() func(t *testing.T, name string) string {
	var mu sync.Mutex
	return func(t *testing.T, name string) string {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		out := filepath.Join(t.TempDir(), filepath.Base(name))
		if b, err := exec.Command("go", "build", "-o", out, "./"+name).CombinedOutput(); err != nil {
			t.Fatalf("building %s: %v\n%s", name, err, b)
		}
		return out
	}
}()

// serve runs a program that says where it listens, until the test ends.
func serve(t *testing.T, name string, args ...string) (addr string) {
	t.Helper()
	return run(t, build(t, name), args...)
}

// run is serve for a program that is built already.
func run(t *testing.T, path string, args ...string) (addr string) {
	t.Helper()
	cmd := exec.Command(path, append(args, "-listen", "127.0.0.1:0")...)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said, ended := bufio.NewReader(out), make(chan struct{})
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
		cmd.Wait()
	})
	line, err := said.ReadString('\n')
	go func() { // until the program ends
		defer close(ended)
		io.Copy(t.Output(), said)
	}()
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if err != nil || !ok {
		t.Fatalf("%s said %q, %v", filepath.Base(path), line, err)
	}
	return addr
}

// TestClassicServiceAndClient runs two services and a client, each a process of
// its own, joined by a real nsqd: only one of the services changes the row.
func TestClassicServiceAndClient(t *testing.T) {
	t.Parallel()
	nsqd := nsqdtest.Start(t)
	serve(t, "classic/service", "-nsqd", nsqd.Addr, "-mutate")
	idle := serve(t, "classic/service", "-nsqd", nsqd.Addr)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	client := exec.CommandContext(ctx, build(t, "classic/client"), "-addr", idle, "-secret", mark, "-n", "3")
	client.Stderr = t.Output()
	out, err := client.Output() // its rows, which say whose they are
	if err != nil {
		t.Fatalf("the client ended with %v after printing %q", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != 3 {
		t.Fatalf("the client printed %q, want 3 rows", lines)
	}
	for _, line := range lines {
		var row struct{ ID, For, Pass string }
		if err := json.Unmarshal([]byte(line), &row); err != nil || row.ID != "100" || row.For != mark || row.Pass != mark+`{"mine":true}` {
			t.Errorf("the client got %s, %v", line, err)
		}
	}
}

// TestClassicOwnQueue runs the program that brings its own queue, and the same
// with NSQ behind the function interface.
func TestClassicOwnQueue(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"own queue": nil,
		"nsq":       {"-nsqd", nsqdtest.Start(t).Addr},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := serve(t, "classic/ownqueue", args...)
			c, _, err := websocket.DefaultDialer.Dial("ws://"+addr+"/ws/entity-sync/", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			got := make(chan string, 100)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for {
					_, b, err := c.ReadMessage()
					if err != nil {
						return
					}
					got <- string(b)
				}
			}()
			for _, m := range []string{`{"action":"secret","body":"` + mark + `"}`, `{"action":"subscribe","body":{"id":"7","entity":"items"}}`} {
				if err := c.WriteMessage(websocket.TextMessage, []byte(m)); err != nil {
					t.Fatal(err)
				}
			}
			// The classic wire acknowledges nothing: write until the
			// subscription shows.
			want := []string{`{"row":"red","for":"` + mark + `"}`, `{"and":"another"}`}
			for end := time.Now().Add(patience); len(want) > 0; {
				r, err := http.PostForm("http://"+addr+"/write", url.Values{"id": {"7"}, "row": {"red"}})
				if err != nil {
					t.Fatal(err)
				}
				r.Body.Close()
				select {
				case row := <-got:
					switch {
					case row == want[0]:
						want = want[1:]
					case len(want) == 1:
						t.Fatalf("got %s, want %s right after the first row", row, want[0])
					}
					// Otherwise it is the row as it was before: where the node joined
					// NSQ only now, it has looked at everything watched.
				case <-time.After(50 * time.Millisecond):
					if time.Now().After(end) {
						t.Fatalf("never got %s", want[0])
					}
				}
			}
			c.Close()
			<-ended
			http.DefaultClient.CloseIdleConnections()
		})
	}
}

// It runs alone: the functions are those of the process.
func TestClassicFunctionsOverNSQCanBeShutDown(t *testing.T) {
	nsqd := nsqdtest.Start(t)
	heard := make(chan string, 1)
	nsqbus.BuildSubscriber(nsqd.Addr)(items, func(b []byte) {
		select {
		case heard <- string(b):
		default:
		}
	})
	publish := nsqbus.BuildPublisher(nsqd.Addr)(items)
	testkit.Until(t, "it is heard", func() bool {
		publish([]byte("hello"))
		select {
		case b := <-heard:
			return b == "hello"
		case <-time.After(10 * time.Millisecond):
			return false
		}
	})
	if err := nsqbus.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}
