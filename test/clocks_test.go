package test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/socket"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
	"github.com/entity-sync/entity-sync/web"
	"github.com/entity-sync/entity-sync/web/wire"
)

// stepped is what the overlay adds to package time.
const stepped = `package time

import "syscall"

func stepped() int64 {
	seconds, _ := syscall.Getenv("ENTITY_SYNC_TEST_STEP")
	n, _ := atoi(seconds)
	return int64(n)
}
`

// buildWithClock compiles a command of this module whose clock of the wall can be set.
func buildWithClock(t *testing.T, name string) (path string) {
	t.Helper()
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	original, err := os.ReadFile(filepath.Join(source, "time.go"))
	if err != nil {
		t.Fatal(err)
	}
	const now = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	if n := strings.Count(string(original), now); n != 1 {
		t.Fatalf("time.go holds %q %d times, want once: the overlay is out of date", now, n)
	}
	dir := t.TempDir()
	overlay := map[string]map[string]string{"Replace": {}}
	for file, text := range map[string]string{
		"time.go":         strings.Replace(string(original), now, now+"\tsec += stepped()\n", 1),
		"time_stepped.go": stepped,
	} {
		path := filepath.Join(dir, file)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay["Replace"][filepath.Join(source, file)] = path
	}
	b, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, filepath.Base(name))
	cmd := exec.CommandContext(t.Context(), "go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", path, "./"+name)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", name, err, out)
	}
	return path
}

// clockNode is a node in a process whose clock of the wall can be set.
type clockNode struct {
	t    *testing.T
	addr string
}

func (n clockNode) tell(what string, with url.Values) (answer string) {
	n.t.Helper()
	answer, status := n.ask(what, with)
	if status != http.StatusOK {
		n.t.Fatalf("%s: status %d, %s", what, status, answer)
	}
	return answer
}

func (n clockNode) ask(what string, with url.Values) (answer string, status int) {
	n.t.Helper()
	r, err := http.PostForm("http://"+n.addr+what, with)
	if err != nil {
		n.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return string(b), r.StatusCode
}

func (n clockNode) set(ahead time.Duration) {
	n.t.Helper()
	n.tell("/step", url.Values{"seconds": {strconv.Itoa(int(ahead.Seconds()))}})
	now, err := strconv.ParseInt(n.tell("/now", nil), 10, 64)
	if off := time.Until(time.Unix(now, 0)) - ahead; err != nil || off.Abs() > patience {
		n.t.Fatalf("the node's clock was not set: it is %v off, %v", off, err)
	}
}

func (n clockNode) join(secret string) *conn {
	n.t.Helper()
	c := &conn{socket.DialV2(n.t, "ws://"+n.addr+web.DefaultPath), n.t}
	c.Secret(secret)
	c.isThere()
	return c
}

// isThere has the node answer: it has not sent the client away.
func (c *conn) isThere() {
	c.t.Helper()
	c.Send(`{"action":"unsubscribe","ref":"there","body":{"entity":"items","id":"1"}}`)
	for {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		_, b, err := c.ReadMessage()
		if err != nil {
			c.t.Fatalf("a client that was to stay: %v", err)
		}
		if strings.Contains(string(b), `"there"`) {
			return
		}
	}
}

// wantAway checks that the session ends with a code, soon after it was told to.
func (c *conn) wantAway(code int, told time.Time) {
	c.t.Helper()
	if got := c.CloseCode(); got != code {
		c.t.Fatalf("a session was closed with %d, want %d", got, code)
	}
	if took := time.Since(told); took > 6*time.Second {
		c.t.Errorf("a session ended %v after the order, want 6s at most", took)
	}
}

// Two nodes as processes, with clocks that are an hour apart, and are set while sessions
// last: each session that there was is ended once, on both nodes, and who has come since
// stays.
func TestOrdersWhateverTheClocksSay(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	path := buildWithClock(t, "clocks")
	for _, ahead := range [][2]time.Duration{{time.Hour, 0}, {0, time.Hour}} {
		t.Run(fmt.Sprint(ahead), func(t *testing.T) {
			nsqd := nsqdtest.Start(t)
			var nodes [2]clockNode
			for i := range nodes {
				nodes[i] = clockNode{t, run(t, path, "-nsqd", nsqd.Addr)}
				nodes[i].set(ahead[i])
				testkit.Until(t, "the node is on the bus", func() bool {
					_, status := nodes[i].ask("/ready", nil)
					return status == http.StatusOK
				})
			}
			here, there := nodes[0], nodes[1]
			secret := url.Values{"secret": {mark + "moved"}}
			one, two := here.join(mark+"moved"), there.join(mark+"moved")
			told := time.Now()
			here.tell("/disconnect", secret)
			one.wantAway(wire.CloseDisconnected, told)
			two.wantAway(wire.CloseDisconnected, told)
			one, two = there.join(mark+"moved"), here.join(mark+"moved")

			bad := []*conn{here.join(mark + "bad"), there.join(mark + "bad")}
			told = time.Now()
			there.tell("/revoke", url.Values{"secret": {mark + "bad"}})
			for _, c := range bad {
				c.wantAway(wire.CloseRevoked, told)
			}
			one.isThere()
			two.isThere()

			here.set(-time.Hour)
			there.set(-2 * time.Hour)
			told = time.Now()
			here.tell("/revoke", secret)
			one.wantAway(wire.CloseRevoked, told)
			two.wantAway(wire.CloseRevoked, told)
		})
	}
}
