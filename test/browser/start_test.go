package browser

import (
	"bytes"
	"fmt"
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

	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/test/chromium"
)

// What README.md has a newcomer do, in a folder beside the clone, command by command, with
// two pages open.
func TestTheFirstSteps(t *testing.T) {
	w := newWalk(t)
	browser := chromium.Start(t, chromium.Options{Explain: noted})

	w.run("mkdir ../items && cd ../items")
	w.folder = filepath.Join(w.folder, "../items")
	w.paste("main.go")
	w.run("go mod init items")
	w.borrowVersions()
	w.run("go mod edit -replace")
	w.run("go mod tidy")
	alone := w.serve("go run .", w.first)
	page := browser.Open(t, "http://"+w.first+"/")
	shows(page, "nothing yet", "live")
	w.run("curl")
	shows(page, "Green tea", "live")
	alone.interrupt()
	shows(page, "Green tea", "offline")

	nsqd := w.start("go -C ../entity-sync run ./example/nsqd")
	w.answers(w.nsqd)
	w.serve("NSQ_ADDR=127.0.0.1:4150 go run .", w.first)
	w.serve("NSQ_ADDR=127.0.0.1:4150 ADDR=127.0.0.1:8081 go run .", w.second)
	shows(page, "Green tea", "live")
	other := browser.Open(t, "http://"+w.second+"/")
	shows(other, "Green tea", "live")
	w.run("curl")
	shows(page, "Oolong", "live")
	shows(other, "Oolong", "live")

	nsqd.interrupt()
	shows(page, "Oolong", "stale")
	shows(other, "Oolong", "stale")
	if said := w.run("curl"); !strings.Contains(said, "saved, but not everybody could be told") {
		t.Errorf("without the bus a write is answered with %q", said)
	}
	shows(page, "White tea", "stale")
	shows(other, "Oolong", "stale")
	w.start("go -C ../entity-sync run ./example/nsqd")
	shows(page, "White tea", "live")
	shows(other, "White tea", "live")
	if len(w.commands) > 0 {
		t.Errorf("README.md names %q as well", w.commands)
	}
}

// walk is somebody who does what README.md says.
type walk struct {
	t                   *testing.T
	clone               string   // the repository
	folder              string   // where commands are run
	first, second, nsqd string   // addresses, in place of the page's own, which may be taken
	commands            []string // that are still to be run
}

// newWalk reads what is to be run: the lines of all blocks that are marked as sh.
func newWalk(t *testing.T) *walk {
	t.Helper()
	clone, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	w := &walk{t: t, clone: clone, folder: filepath.Join(t.TempDir(), "entity-sync")}
	if err := os.Mkdir(w.folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []*string{&w.first, &w.second, &w.nsqd} {
		*addr = testkit.FreeAddr(t)
	}
	text, err := os.ReadFile(filepath.Join(clone, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range regexp.MustCompile("(?s)\n```sh\n(.*?)\n```\n").FindAllSubmatch(text, -1) {
		w.commands = append(w.commands, strings.Split(string(block[1]), "\n")...)
	}
	return w
}

// paste saves the program that the README shows.
func (w *walk) paste(name string) {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.clone, "README.md"))
	if err != nil {
		w.t.Fatal(err)
	}
	shown := regexp.MustCompile("(?s)\n```go\n(.*?)```").FindSubmatch(text)
	if shown == nil {
		w.t.Fatal("README.md shows no program")
	}
	w.write(name, shown[1])
}

func (w *walk) write(name string, text []byte) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.folder, name), text, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// borrowVersions has the folder's module require the versions that the examples do:
// they are on this machine, and nothing need be downloaded for the test. The repository's
// own modules have no version.
func (w *walk) borrowVersions() {
	w.t.Helper()
	mod, err := os.ReadFile(filepath.Join(w.folder, "go.mod"))
	if err != nil {
		w.t.Fatal(err)
	}
	examples, err := os.ReadFile(filepath.Join(w.clone, "example/go.mod"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, required := range regexp.MustCompile(`(?ms)^require \(.*?^\)\n`).FindAll(examples, -1) {
		mod = append(mod, regexp.MustCompile(`(?m)^\tgithub\.com/entity-sync/.*\n`).ReplaceAll(required, nil)...)
	}
	w.write("go.mod", mod)
}

// command makes the next command of the page, which must begin as is said here.
func (w *walk) command(begins string) *exec.Cmd {
	w.t.Helper()
	if len(w.commands) == 0 || !strings.HasPrefix(w.commands[0], begins) {
		w.t.Fatalf("README.md goes on with %q, and not with %s", w.commands, begins)
	}
	line := strings.NewReplacer(
		"../entity-sync", w.clone,
		"127.0.0.1:8080", w.first, "127.0.0.1:8081", w.second, "127.0.0.1:4150", w.nsqd,
		"./example/nsqd", "./example/nsqd -http-address 127.0.0.1:0 -tcp-address "+w.nsqd,
		"go mod tidy", "go mod tidy -e", // what only tests of dependencies need is not on every machine
	).Replace(w.commands[0])
	w.commands = w.commands[1:]
	w.t.Logf("$ %s", line)
	cmd := exec.Command("bash", "-c", line)
	cmd.Dir = w.folder
	cmd.Env = append(os.Environ(), "ADDR="+w.first, "NSQ_ADDR=", "GOSUMDB=off",
		"GOPROXY=file://"+testkit.GoEnv(w.t, "GOMODCACHE")+"/cache/download,"+testkit.GoEnv(w.t, "GOPROXY"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // to be ended together, as a terminal does
	return cmd
}

// run runs a command that ends by itself, and returns what it says.
func (w *walk) run(begins string) string {
	w.t.Helper()
	out, err := w.command(begins).CombinedOutput()
	w.t.Logf("%s", out)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(out)
}

// running is a command that goes on.
type running struct {
	t   *testing.T
	cmd *exec.Cmd

	mu   sync.Mutex
	said []byte
}

func (r *running) Write(text []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, text...)
	return r.t.Output().Write(text)
}

func (r *running) saying(text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Contains(r.said, []byte(text))
}

// start starts a command that goes on, and that the test ends at last.
func (w *walk) start(begins string) *running {
	w.t.Helper()
	r := &running{t: w.t, cmd: w.command(begins)}
	r.cmd.Stdout, r.cmd.Stderr = r, r
	if err := r.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if r.cmd.ProcessState == nil {
			r.interrupt()
		}
	})
	return r
}

// interrupt is Ctrl-C in the command's terminal.
func (r *running) interrupt() {
	r.t.Helper()
	if err := syscall.Kill(-r.cmd.Process.Pid, syscall.SIGINT); err != nil {
		r.t.Error(err)
	}
	if err := r.cmd.Wait(); err != nil {
		r.t.Logf("go run: %v", err) // as ever after Ctrl-C
	}
	if r.saying("exit status") { // which go run says of the program
		r.t.Errorf("%s fails after Ctrl-C", r.cmd)
	}
}

// compiling is how long a command may take that compiles all there is first.
const compiling = 5 * time.Minute

// serve starts the program, and waits until it says that it serves at an address:
// then it does.
func (w *walk) serve(begins, addr string) *running {
	w.t.Helper()
	r := w.start(begins)
	for end := time.Now().Add(compiling); !r.saying("serving http://" + addr); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatal("the program does not say that it serves")
		}
	}
	if !listening(addr) {
		w.t.Errorf("the program says that it serves %s, and does not", addr)
	}
	return r
}

// answers waits until somebody listens at an address.
func (w *walk) answers(addr string) {
	w.t.Helper()
	for end := time.Now().Add(compiling); !listening(addr); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("nobody listens at %s", addr)
		}
	}
}

func listening(addr string) bool {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// shows waits until the page has the name and the state.
func shows(b *chromium.Tab, name, state string) {
	b.T.Helper()
	b.Until(fmt.Sprintf("the page shows %s, %s", name, state), fmt.Sprintf(
		"document.querySelector('h1').textContent === %q && document.querySelector('p').textContent === %q", name, state))
}
