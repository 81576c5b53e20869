package main

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/test/chromium"
)

const patience = testkit.Patience

// tokens is what the secrets of the document begin with in the test, so that one which
// gets out is found.
const tokens = canary.Mark + "-of-"

// walk is a folder in which somebody does what the document says.
type walk struct {
	t         *testing.T
	dir, addr string
	env       []string
	browser   *chromium.Browser
	pages     map[string]*chromium.Tab // by their user
}

// newWalk makes a folder with an empty module, from where psql connects to the cluster as
// an administrator.
func newWalk(t *testing.T, cluster *pgtest.Server) *walk {
	t.Helper()
	host, port, err := net.SplitHostPort(cluster.Addr())
	if err != nil {
		t.Fatal(err)
	}
	admin, err := url.Parse(cluster.URL("owner", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	w := &walk{t: t, dir: t.TempDir(), addr: testkit.FreeAddr(t), pages: make(map[string]*chromium.Tab)}
	w.env = append(os.Environ(),
		"PGHOST="+host, "PGPORT="+port, "PGUSER="+admin.User.Username(), "PGSSLMODE=disable", "PSQLRC="+filepath.Join(w.dir, "psqlrc"),
		"ADDR="+w.addr, "NSQ_ADDR=", "GOWORK=off", "GOFLAGS=-mod=mod", "GOSUMDB=off",
		// A new module needs other versions than the workspace, once: then they are here.
		"GOPROXY=file://"+testkit.GoEnv(t, "GOMODCACHE")+"/cache/download,"+testkit.GoEnv(t, "GOPROXY"),
		"PATH="+os.Getenv("PATH")+programs(t))
	w.write("psqlrc", "\\set ON_ERROR_STOP on\n") // what fails in the middle fails the test
	w.makeModule()
	w.browser = chromium.Start(t, chromium.Options{Explain: "globalThis.seen"})
	return w
}

// programs is where Debian puts PostgreSQL's own, off the path.
func programs(t *testing.T) (path string) {
	t.Helper()
	dirs, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		path += ":" + dir
	}
	return path
}

// makeModule does what go mod init and go get do, with this repository for what would
// come from elsewhere.
func (w *walk) makeModule() {
	w.t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		w.t.Fatal(err)
	}
	library := "github.com/entity-sync/entity-sync"
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			w.t.Fatal(err)
		}
		if name == "go.mod" {
			text = fmt.Appendf([]byte(strings.Replace(string(text), "module "+library, "module notes", 1)), "\nrequire %[1]s v0.0.0\nreplace %[1]s => %s\n", library, root)
		}
		w.write(name, string(text))
	}
}

// write makes a file in the folder.
func (w *walk) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(strings.ReplaceAll(text, "token-of-", tokens)), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// command is one in the folder, in a group of processes of its own.
func (w *walk) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = w.dir, w.env
	cmd.Stdout, cmd.Stderr = w.t.Output(), w.t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

func (w *walk) shell(script string) {
	w.t.Helper()
	if err := w.command("sh", "-euc", script).Run(); err != nil {
		w.t.Fatalf("%s: %v", script, err)
	}
}

// serve runs a script that ends in the program, waits until that serves, and ends it
// with the test as Ctrl-C does.
func (w *walk) serve(script string) {
	w.t.Helper()
	// With exec, or the shell would end by the signal, and not as the program does.
	cmd := w.command("sh", "-euc", strings.Replace(script, "go run .", "exec go run .", 1))
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	w.t.Cleanup(func() {
		// go run, which would end with 1 for the signal, ends as the program does.
		for _, program := range children(w.t, cmd.Process.Pid) {
			_ = syscall.Kill(program, syscall.SIGINT)
		}
		select {
		case err := <-ended:
			if err != nil {
				w.t.Errorf("the program ended with %v, want exit code 0", err)
			}
		case <-time.After(patience):
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			w.t.Errorf("the program goes on after SIGINT: %v", <-ended)
		}
	})
	for {
		answer, err := http.Get("http://" + w.addr + "/")
		if err == nil {
			answer.Body.Close()
			http.DefaultClient.CloseIdleConnections()
			return
		}
		select {
		case err := <-ended:
			ended <- err
			w.t.Fatalf("%s: it ended with %v", script, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// children returns the processes that a process has started.
func children(t *testing.T, pid int) (pids []int) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // of each thread
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		for _, child := range strings.Fields(string(text)) {
			n, err := strconv.Atoi(child)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, n)
		}
	}
	return pids
}

// piece runs a piece of a program beside what is in the folder, with a connection of the
// owner, a node, and the pool it reads from.
func (w *walk) piece(name, text string) {
	w.t.Helper()
	w.write("piece_test.go", fmt.Sprintf(`package main

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/es"
)

func Test%s(t *testing.T) {
	ctx := t.Context()
	owner, err := pgx.Connect(ctx, "postgres://notes_owner:owner@localhost/notes")
	if err != nil {
		t.Fatal(err)
	}
	pool, err := db.Open(ctx, "postgres://notes_app:app@localhost/notes")
	if err != nil {
		t.Fatal(err)
	}
	node, err := es.New(es.Config{})
	if err != nil {
		t.Fatal(err)
	}
	_, _, _, _ = owner, pool, node, outbox.Schema // whatever the piece uses
	if err := func() error {
		%s
		return err
	}(); err != nil {
		t.Fatal(err)
	}
}
`, name, text))
	if err := w.command("go", "test", "-count", "1", "-run", "^Test"+name+"$", ".").Run(); err != nil {
		w.t.Errorf("%s: %v", text, err)
	}
}

// openPages opens the page as each user, and waits until it is live.
func (w *walk) openPages() {
	w.t.Helper()
	for _, user := range []string{"ann", "bob"} {
		w.pages[user] = w.browser.Open(w.t, "http://"+w.addr+"/?token="+tokens+user)
		w.until(user, "it is live", "document.querySelector('h1').textContent", "Notes of "+user+": live")
		w.expect(user)
	}
}

// expect waits until the page of a user shows these notes, and no others.
func (w *walk) expect(user string, notes ...string) {
	w.t.Helper()
	w.until(user, "it shows its notes", "[...document.querySelectorAll('li')].map((li) => li.textContent).join('|')", strings.Join(notes, "|"))
}

// refuses looks at the notes of somebody else as a user does who changes the page's
// code: there are none.
func (w *walk) refuses(user, other string) {
	w.t.Helper()
	w.shell(fmt.Sprintf(`psql postgres://notes_owner:owner@localhost/notes -c "insert into notes (owner, text) values ('%s', 'a secret')"`, other))
	w.expect(other, "a secret")
	script := fmt.Sprintf("sync.subscribe('lists', %q, ({ rows, state }) => { globalThis.seen = state + ' ' + JSON.stringify(rows ?? null) })", other)
	w.pages[user].Run(fmt.Sprintf(
		"import('/entity-sync/index.js').then(({ connect }) => { const sync = connect('/ws/entity-sync/', { secret: %q }); %s }), null", tokens+user, script))
	w.until(user, "it has an answer", "globalThis.seen ?? ''", "live []")
}

// until waits until an expression has a value in a user's page.
func (w *walk) until(user, what, expression, value string) {
	w.t.Helper()
	w.pages[user].Until(fmt.Sprintf("the page of %s: %s: %q", user, what, value), fmt.Sprintf("(%s) === %q", expression, value))
}
