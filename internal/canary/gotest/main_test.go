package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// module is one with a package that passes, one that fails and one that does not
// compile.
var module = map[string]string{
	"go.mod": "module example.com/m\n\ngo 1.26\n",
	"good/good_test.go": `package good

import ("fmt"; "os"; "path/filepath"; "testing")

func TestPasses(t *testing.T) {
	t.Log("said by a test")
	fmt.Println("said on stdout")
	fmt.Println("ok  	is no package")
	fmt.Fprintln(os.Stderr, "said on stderr")
	os.WriteFile(filepath.Join(t.ArtifactDir(), "file"), []byte("said in a file"), 0o600)
}
`,
	"bad/bad_test.go": `package bad

import "testing"

func TestPasses(t *testing.T) { t.Log("all is well") }

func TestFails(t *testing.T) {
	t.Run("inner", func(t *testing.T) { t.Error("this is why") })
}
`,
	"panics/panics_test.go": `package panics

import "testing"

func TestPanics(t *testing.T) { panic("why it panics") }
`,
	"broken/broken_test.go": "package broken\n\nvar x int = true\n",
	"empty/empty.go":        "package empty\n",
	"hangs/hangs_test.go": `package hangs

import ("testing"; "time")

func TestPasses(t *testing.T) {}

func TestHangs(t *testing.T) {
	for {
		t.Log("said by what hangs")
		time.Sleep(100 * time.Millisecond)
	}
}
`,
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == asTest { // as go test has gotest run a test binary
		main()
	}
	goleak.VerifyTestMain(m)
}

// inModule has the test run where the module is.
func inModule(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range module {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("GOWORK", "off")
	t.Setenv("GOFLAGS", "")
	t.Chdir(dir)
}

var underWayLine = regexp.MustCompile(`(?m)^ +\d+ s: .*\n`)

func TestOutputIsKeptAndShortened(t *testing.T) {
	inModule(t)
	kept := t.TempDir()
	test := func(packages ...string) (shown string, err error) {
		var stdout strings.Builder
		err = run(kept, packages, &stdout)
		return stdout.String(), err
	}
	shown, err := test("./good", "./empty")
	shown = underWayLine.ReplaceAllString(shown, "") // a slow machine is told what is under way
	if err != nil || strings.Count(shown, "\n") != 2 || !strings.Contains(shown, "ok  \texample.com/m/good\t") || !strings.Contains(shown, "[no test files]") {
		t.Errorf("of what passes it shows %q, %v", shown, err)
	}
	for pkg, why := range map[string]string{"./bad": "this is why", "./panics": "why it panics", "./broken": "cannot use true"} {
		shown, err := test(pkg)
		var exit *exec.ExitError
		if !errors.As(err, &exit) || !strings.Contains(shown, why) || !strings.Contains(shown, "FAIL\texample.com/m/") {
			t.Errorf("of what fails it shows %q, %v", shown, err)
		}
		if strings.Contains(shown, "all is well") || strings.Contains(shown, "=== RUN") {
			t.Errorf("of what passes it shows %q", shown)
		}
	}
	all := read(t, kept)
	for _, said := range []string{"said by a test", "said on stdout", "said on stderr", "said in a file", "all is well", "why it panics"} {
		if !strings.Contains(all, said) {
			t.Errorf("%q is not kept", said)
		}
	}
	if _, err := test("./nowhere"); err == nil {
		t.Error("it is fine that there is no such package")
	}
}

// A test that hangs ends, and its stacks are shown, although it logs.
func TestStacksOfWhatHangs(t *testing.T) {
	inModule(t)
	var shown strings.Builder
	err := run(t.TempDir(), []string{"-hang", "1s", "./hangs"}, &shown)
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Errorf("it ends with %v", err)
	}
	for _, want := range []string{"example.com/m/hangs TestHangs hangs", "SIGQUIT", "hangs.TestHangs(", "FAIL\texample.com/m/hangs"} {
		if !strings.Contains(shown.String(), want) {
			t.Errorf("%q is not shown:\n%s", want, shown.String())
		}
	}
}

// read returns the text of all files.
func read(t *testing.T, dir string) (all string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		all += string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
