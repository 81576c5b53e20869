package ci

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// machine is this one, but its C compiler has no headers, and its apt-get is a script.
// Installing for real is what .ci/bare does.
type machine struct {
	dir string
	env []string
}

func newMachine(t *testing.T, aptGet string) *machine {
	t.Helper()
	m := &machine{dir: t.TempDir()}
	m.program(t, "compiler", `exec `+realCompiler(t)+` -nostdinc "$@"`)
	m.program(t, "apt-get", "cd "+m.dir+"\n"+`echo "$@" >>called`+"\n"+aptGet)
	m.program(t, "sudo", `while [ "${1#-}" != "$1" ]; do shift; done; exec "$@"`)
	m.env = []string{"CI=", "CC=" + filepath.Join(m.dir, "compiler"), "PATH=" + m.dir + ":" + os.Getenv("PATH")}
	return m
}

// mends is an apt-get after which the compiler has its headers.
func mends(t *testing.T) string {
	return `printf '#!/bin/sh\nexec ` + realCompiler(t) + ` "$@"\n' >compiler`
}

func realCompiler(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "CC").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// compiler has its compiler checked, by what asks at stdin if that is a terminal.
func (m *machine) compiler(t *testing.T, stdin io.Reader, env ...string) script {
	t.Helper()
	return m.part(t, "compiler", stdin, env...)
}

func (m *machine) part(t *testing.T, name string, stdin io.Reader, env ...string) script {
	t.Helper()
	cmd := command(t, "dependencies", name)
	cmd.Stdin, cmd.Env = stdin, slices.Concat(os.Environ(), m.env, env)
	return run(t, cmd)
}

func (m *machine) program(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(m.dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
}

// called is what apt-get was called with.
func (m *machine) called(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(m.dir, "called"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(text)
}

const asksFor = "apt-get installs gcc libc6-dev:"

// A compiler is not there because something has its name.
func TestACompilerWithoutHeadersIsNone(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "exit 100")
	r := m.compiler(t, nil)
	if r.code == 0 || !strings.Contains(r.stdout, "a C compiler") || !strings.Contains(r.stdout, "stdlib.h") || !strings.Contains(r.stdout, asksFor) {
		t.Errorf("it ends with %d and says\n%s", r.code, r.stdout)
	}
	if !strings.Contains(r.stderr, "apt-get install --no-install-recommends gcc libc6-dev)") {
		t.Errorf("it does not say what to install:\n%s", r.stderr)
	}
}

// A PgBouncer is one that starts.
func TestAPgBouncerThatDoesNotStartIsNone(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "exit 100")
	if r := m.part(t, "pgbouncer", nil); r.code != 0 || r.stdout != "" {
		t.Errorf("with the real one it ends with %d and says\n%s%s", r.code, r.stdout, r.stderr)
	}
	m.program(t, "pgbouncer", "exit 0")
	if r := m.part(t, "pgbouncer", nil); r.code == 0 || !strings.Contains(r.stdout, "PgBouncer (Debian: pgbouncer)") || !strings.Contains(r.stdout, "apt-get installs pgbouncer:") {
		t.Errorf("it ends with %d and says\n%s", r.code, r.stdout)
	}
}

// Where apt-get is content and the part still does not work, all is not well.
func TestWhatWasInstalledIsCheckedAgain(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "exit 0")
	if r := m.compiler(t, nil); r.code == 0 || !strings.Contains(r.stderr, "stdlib.h") {
		t.Errorf("it ends with %d and says\n%s", r.code, r.stderr)
	}
}

// Without a terminal it goes on by itself; then nothing is missing.
func TestWhatIsMissingIsInstalled(t *testing.T) {
	t.Parallel()
	m := newMachine(t, mends(t))
	r := m.compiler(t, nil)
	if r.code != 0 || !strings.Contains(r.stdout, asksFor) || !strings.Contains(m.called(t), "install -y --no-install-recommends gcc libc6-dev\n") {
		t.Fatalf("it ends with %d, has called %q and says\n%s%s", r.code, m.called(t), r.stdout, r.stderr)
	}
	if r := m.compiler(t, nil); r.code != 0 || strings.Contains(r.stdout, "missing") {
		t.Errorf("after that it ends with %d and says\n%s%s", r.code, r.stdout, r.stderr)
	}
}
