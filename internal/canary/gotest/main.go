// Command gotest runs go test with the arguments that follow the name of a folder,
// keeps there everything that the tests write, passing ones too, and prints what go
// test usually does. While go test is silent it says what is under way. It ends a test
// that hangs, with its stacks: -hang before those arguments says after how long, on an
// idle machine. GO names the go command.
package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// usualHang is several times what the longest of the usual tests takes.
const usualHang = time.Minute

func main() {
	if len(os.Args) > 2 && os.Args[1] == asTest {
		fmt.Fprintln(os.Stderr, "gotest:", become(os.Args[2], os.Args[3:]))
		os.Exit(1)
	}
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: gotest FOLDER [-hang DURATION] [arguments of go test]")
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

func run(folder string, args []string, stdout io.Writer) (err error) {
	hang := usualHang
	if len(args) > 1 && args[0] == "-hang" {
		if hang, err = time.ParseDuration(args[1]); err != nil {
			return err
		}
		args = args[2:]
	}
	folder, err = filepath.Abs(folder)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	binaries, err := newBinaries()
	if err != nil {
		return err
	}
	defer binaries.close()
	args = append([]string{"test", "-json", "-artifacts", "-outputdir", folder, "-exec", binaries.exec()}, args...)
	cmd := exec.Command(goCommand(), args...) //nolint:gosec // the caller says what to run
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	events, decoded := make(chan event), make(chan error, 1)
	go func() { decoded <- decode(out, events) }()
	k := newKeeper(folder, stdout)
	defer k.close()
	err = follow(events, k, &watch{bound: hang, end: binaries.end})
	return errors.Join(err, <-decoded, cmd.Wait())
}

func goCommand() string { return cmp.Or(os.Getenv("GO"), "go") }

// follow takes all events, and looks at the time between them.
func follow(events <-chan event, k *keeper, w *watch) (err error) {
	const often = time.Second
	ticker := time.NewTicker(often)
	defer ticker.Stop()
	p := newProgress(k.stdout)
	k.stdout = p
	for {
		select {
		case e, ok := <-events:
			if !ok {
				return err
			}
			w.take(e)
			if err == nil { // otherwise the rest is read so that go test can end
				err = k.take(e)
			}
		case <-ticker.C:
			for _, hung := range w.tick(often, contention()) {
				fmt.Fprintln(k.stdout, hung)
			}
			p.tick(w)
		}
	}
}
