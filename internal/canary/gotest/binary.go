package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// asTest is the first argument where go test has this program run a test binary. The
// folder of the binaries follows, then the binary and its arguments.
const asTest = "-run-test"

// quit has a Go program print its stacks and end.
const quit = syscall.SIGQUIT

// become notes in the folder whose process this is, and turns into the test binary.
func become(folder string, args []string) error {
	dir, err := os.Getwd() // the folder of the package
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, strconv.Itoa(os.Getpid())), []byte(dir), 0o600); err != nil {
		return err
	}
	return fmt.Errorf("running %s: %w", args[0], syscall.Exec(args[0], args, os.Environ())) //nolint:gosec // go test says what to run
}

// binaries are the test binaries' processes, by a folder in which each has a file.
type binaries struct{ folder string }

func newBinaries() (b binaries, err error) {
	b.folder, err = os.MkdirTemp("", "gotest-")
	return b, err
}

func (b binaries) close() { _ = os.RemoveAll(b.folder) } // of a few bytes

// exec is for the flag of that name.
func (b binaries) exec() string {
	program, err := os.Executable()
	if err != nil {
		program = os.Args[0]
	}
	return fmt.Sprintf("'%s' %s '%s'", program, asTest, b.folder)
}

// end sends a signal to the binary of a package, which runs.
func (b binaries) end(pkg string, how os.Signal) error {
	out, err := exec.Command(goCommand(), "list", "-f", "{{.Dir}}", pkg).Output() //nolint:gosec // the name is go test's
	if err != nil {
		return fmt.Errorf("go list %s: %w", pkg, err)
	}
	want := strings.TrimSpace(string(out))
	files, err := os.ReadDir(b.folder)
	if err != nil {
		return err
	}
	for _, f := range files {
		dir, err := os.ReadFile(filepath.Join(b.folder, f.Name()))
		if err != nil {
			return err
		}
		pid, err := strconv.Atoi(f.Name())
		if err != nil || string(dir) != want {
			continue
		}
		process, err := os.FindProcess(pid)
		if err != nil {
			return err
		}
		return process.Signal(how)
	}
	return fmt.Errorf("no process of %s is known", pkg)
}
