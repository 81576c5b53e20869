package main

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// A package with a test that fails every third time, one that takes long, and one
// that ends the process.
const sample = `package sample

import ("os"; "testing"; "time")

var n int

func TestSometimes(t *testing.T) { if n++; n%3 == 0 { t.Error("no") } }
func TestFast(t *testing.T)      {}
func TestLong(t *testing.T)      { time.Sleep(150 * time.Millisecond) }
func TestMain(m *testing.M)      { os.Exit(m.Run() + EXIT) }
`

func stressed(t *testing.T, exit string, s stress) (row string, failed bool, kept []string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module sample\n", "sample_test.go": strings.Replace(sample, "EXIT", exit, 1),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("GOWORK", "off")
	var out strings.Builder
	s.out, s.kept, s.timeout = &out, filepath.Join(dir, "kept"), time.Minute
	failed, err := s.run(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	kept, err = filepath.Glob(filepath.Join(s.kept, "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(out.String(), dir, "DIR"), failed, kept
}

// In a process of 30 runs, and 30 more on four processors, it fails 20 times.
func TestARowNamesWhatFailed(t *testing.T) {
	row, failed, kept := stressed(t, "0", stress{runs: 30, suites: 1})
	if want := regexp.MustCompile(`^\| DIR \| 2 × 30 \| 1 \| TestSometimes \(20\) \|\n$`); !failed || !want.MatchString(row) {
		t.Errorf("failed: %v, row %q, want %s", failed, row, want)
	}
	if len(kept) != 1 {
		t.Errorf("%d outputs are kept, want that of the process that failed: %q", len(kept), kept)
	}
}

func TestAProcessThatFailsByItselfIsAFailure(t *testing.T) {
	row, failed, _ := stressed(t, "3", stress{suites: 2})
	if want := "| DIR | 2 × 0 | 2 | (exit) (2) |\n"; !failed || row != want {
		t.Errorf("failed: %v, row %q, want %q", failed, row, want)
	}
}

func TestTheRowSaysHowOftenThingsRan(t *testing.T) {
	row, _, _ := stressed(t, "0", stress{runs: 500, suites: 20, limit: time.Nanosecond})
	if want := "| DIR | 0 × 0 | 0 | none |\n"; row != want {
		t.Errorf("row %q, want %q", row, want)
	}
}

// An interrupt ends it with the row of what was run until then.
func TestAnInterruptEndsWithTheRow(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module sample\n", "sample_test.go": "package sample\n\nimport (\"os\"; \"testing\")\n\nfunc TestFast(t *testing.T) { os.WriteFile(\"ran\", nil, 0o600) }\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("GOWORK", "off")
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var out strings.Builder
	s := stress{out: &out, kept: filepath.Join(dir, "kept"), timeout: time.Minute, suites: 1 << 30}
	var watching sync.WaitGroup
	watching.Go(func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(filepath.Join(dir, "ran")); err == nil {
				interrupt()
			}
			time.Sleep(time.Millisecond)
		}
	})
	_, err := s.run(ctx, dir)
	interrupt()
	watching.Wait()
	if row := strings.ReplaceAll(out.String(), dir, "DIR"); err != nil || !regexp.MustCompile(`^\| DIR \| \d × 0 \| \d+ \| none \|\n$`).MatchString(row) {
		t.Errorf("row %q, %v", row, err)
	}
}
