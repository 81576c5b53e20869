package ci

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// withoutDebootstrap is a PATH with hardly anything, and a make whose targets all pass.
func withoutDebootstrap(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"sh", "dirname", "id"} {
		path, err := exec.LookPath(name)
		if err == nil {
			err = os.Symlink(path, filepath.Join(dir, name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "make"), []byte("#!/bin/sh\n"), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	return "PATH=" + dir
}

// What cannot be run has not passed, whatever else has.
func TestWhatCannotBeRunHasNotPassed(t *testing.T) {
	t.Parallel()
	path := withoutDebootstrap(t)
	bare := command(t, "bare")
	bare.Env = []string{path}
	if r := run(t, bare); r.code != 3 || !strings.Contains(r.stderr, "not run: a bare machine cannot be made here: ") {
		t.Errorf("bare ends with %d and says %q", r.code, r.stderr)
	}
	check := command(t, "check")
	check.Env = []string{path}
	r := run(t, check)
	if r.code == 0 || !strings.Contains(r.stdout, "NOT RUN  the README's commands") || !strings.Contains(r.stdout, "passed   every fault") {
		t.Errorf("check ends with %d and says %q", r.code, r.stdout)
	}
}
