// Command gotest runs go test with the arguments that follow the name of a folder,
// keeps there everything that the tests write, passing ones too, and prints what go
// test usually does. GO names the go command.
package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: gotest FOLDER [arguments of go test]")
		os.Exit(2)
	}
	err := run(os.Args[1], os.Args[2:], os.Stdout)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(max(1, exit.ExitCode()))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gotest:", err)
		os.Exit(1)
	}
}

func run(folder string, args []string, stdout io.Writer) error {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	cmd := exec.Command(cmp.Or(os.Getenv("GO"), "go"), append([]string{"test", "-json", "-artifacts", "-outputdir", folder}, args...)...) //nolint:gosec // whoever runs this says what to run
	cmd.Stderr = os.Stderr
	events, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	k := &keeper{folder: folder, stdout: stdout, files: map[string]*os.File{}, held: map[test]*strings.Builder{}}
	defer k.close()
	err = k.keep(events)
	_, rest := io.Copy(io.Discard, events) // so that it ends
	return errors.Join(err, rest, cmd.Wait())
}

// event is what go test -json says; see go doc test2json.
type event struct {
	Action, Package, Test, Output string
}

// test is one of a package; the one without a name is the package itself.
type test struct{ pkg, name string }

// keeper writes all output to a file for each package, and prints that of the
// tests that fail, and of each package what go test says of it.
type keeper struct {
	folder string
	stdout io.Writer
	files  map[string]*os.File
	held   map[test]*strings.Builder // what the tests that have not ended yet wrote
}

func (k *keeper) keep(events io.Reader) error {
	for d := json.NewDecoder(events); ; {
		var e event
		err := d.Decode(&e)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = k.take(e)
		}
		if err != nil {
			return fmt.Errorf("reading what go test says: %w", err)
		}
	}
}

func (k *keeper) take(e event) error {
	t := test{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(k.stdout, e.Output)
	case "output":
		if k.held[t] == nil {
			k.held[t] = &strings.Builder{}
		}
		k.held[t].WriteString(e.Output)
		return k.write(e.Package, e.Output)
	case "fail":
		if e.Test == "" { // and with it all that were under way
			for other := range k.held {
				if other.pkg == e.Package && other != t {
					k.print(other, failed)
				}
			}
		}
		k.print(t, failed)
	case "pass", "skip":
		if e.Test == "" {
			k.print(t, passed)
		}
		delete(k.held, t)
	}
	return nil
}

// failed reports whether a line of what failed is worth printing.
func failed(line string) bool { return !strings.HasPrefix(line, "=== ") }

// passed reports whether a line is what go test says of a package.
func passed(line string) bool {
	return strings.HasPrefix(line, "ok  \t") || strings.HasPrefix(line, "?   \t")
}

func (k *keeper) print(t test, worth func(line string) bool) {
	if k.held[t] == nil {
		return
	}
	for line := range strings.Lines(k.held[t].String()) {
		if worth(line) {
			fmt.Fprint(k.stdout, line)
		}
	}
	delete(k.held, t)
}

func (k *keeper) write(pkg, text string) error {
	f := k.files[pkg]
	if f == nil {
		var err error
		name := strings.ReplaceAll(pkg, "/", "_") + ".*.txt"
		if f, err = os.CreateTemp(k.folder, name); err != nil {
			return err
		}
		k.files[pkg] = f
	}
	_, err := f.WriteString(text)
	return err
}

func (k *keeper) close() {
	for _, f := range k.files {
		_ = f.Close() // written without a buffer
	}
}
