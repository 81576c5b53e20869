package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// keeper writes all output to a file for each package, and prints that of the
// tests that fail, and of each package what go test says of it.
type keeper struct {
	folder string
	stdout io.Writer
	files  map[string]*os.File
	held   map[test]*strings.Builder // what the tests that have not ended yet wrote
}

func newKeeper(folder string, stdout io.Writer) *keeper {
	return &keeper{folder: folder, stdout: stdout, files: map[string]*os.File{}, held: map[test]*strings.Builder{}}
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

// print writes all of it at once: other programs may write to the same terminal.
func (k *keeper) print(t test, worth func(line string) bool) {
	if k.held[t] == nil {
		return
	}
	var text strings.Builder
	for line := range strings.Lines(k.held[t].String()) {
		if worth(line) {
			text.WriteString(line)
		}
	}
	delete(k.held, t)
	if text.Len() > 0 {
		fmt.Fprint(k.stdout, text.String())
	}
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
