package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/bench/process"
)

// variable makes the test binary be the program.
const variable = "ENTITY_SYNC_BENCH_MAIN"

func TestMain(m *testing.M) {
	process.Main(roles())
	if os.Getenv(variable) != "" {
		main()
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// program is the program with flags, which keeps its temporary files in a folder.
func program(t *testing.T, temporary string, flags ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, flags...)
	cmd.Env = append(os.Environ(), variable+"=1", "TMPDIR="+temporary)
	return cmd
}

// What makes no sense is refused before anything is measured.
func TestFlags(t *testing.T) {
	for _, c := range []struct {
		flags string
		says  string
		code  int
	}{
		{"-h", "S9\t1,000 changes a second", 0},
		{"-unknown", "not defined: -unknown", 2},
		{"-only S1,S99", `no scenario "S99", only S1 to S9`, 1},
		{"-runs 0", "0 runs", 1},
		{"-runs -1", "-1 runs", 1},
		{"S8 -quick", `"S8" is no flag`, 1},
		{"-cpuprofile /dev/null/profiles", "/dev/null", 1},
		{"-out /dev/null/table.md", "/dev/null/table.md", 1},
		{"-cpuprofile /proc/self", "/proc/self", 1}, // which is there, but takes no files
	} {
		cmd := program(t, t.TempDir(), strings.Fields(c.flags)...)
		stop := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
		got, err := cmd.CombinedOutput()
		stop.Stop()
		if !strings.Contains(string(got), c.says) || cmd.ProcessState.ExitCode() != c.code {
			t.Errorf("%s: %v, %s\nwant %d, %q", c.flags, err, got, c.code, c.says)
		}
	}
}

// Whoever is told to end ends the processes that it has started, throws their files
// away, and says that the table is not all there is.
func TestEndingEarly(t *testing.T) {
	temporary := t.TempDir()
	kept := filepath.Join(t.TempDir(), "table.md")
	if err := os.WriteFile(kept, []byte("An earlier table.\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := program(t, temporary, "-quick", "-only", "S7", "-out", kept)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer stop.Stop()
	files := func() []string {
		found, err := filepath.Glob(filepath.Join(temporary, "*"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	for end := time.Now().Add(time.Minute); len(files()) == 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	if len(files()) == 0 {
		t.Error("no nsqd was started")
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("it ends with %v, want 1: %s", err, &errs)
	}
	if left := files(); len(left) > 0 {
		t.Errorf("it leaves %v", left)
	}
	if !strings.Contains(out.String(), "runs: 3, **not all to their end**") {
		t.Errorf("it says %s", &out)
	}
	if got, err := os.ReadFile(kept); err != nil || string(got) != "An earlier table.\n\n"+out.String() {
		t.Errorf("the file has %q (%v), want what was in it, and what was said: %s", got, err, &out)
	}
}
