package ci

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal returns one at which something is typed.
func terminal(t *testing.T, typed string) *os.File {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keyboard.Close() })
	if err := unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	screen, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = screen.Close() })
	if _, err := keyboard.WriteString(typed); err != nil {
		t.Fatal(err)
	}
	return screen
}

// At a terminal it asks before it installs anything.
func TestATerminalIsAsked(t *testing.T) {
	t.Parallel()
	const question = "Enter does, n does not."
	t.Run("no", func(t *testing.T) {
		t.Parallel()
		m := newMachine(t, mends(t))
		r := m.compiler(t, terminal(t, "n\n"))
		if r.code == 0 || !strings.Contains(r.stdout, question) || m.called(t) != "" {
			t.Errorf("it ends with %d, has called %q and says\n%s", r.code, m.called(t), r.stdout)
		}
	})
	t.Run("yes", func(t *testing.T) {
		t.Parallel()
		m := newMachine(t, mends(t))
		r := m.compiler(t, terminal(t, "\n"))
		if r.code != 0 || !strings.Contains(r.stdout, question) || !strings.Contains(m.called(t), "libc6-dev") {
			t.Errorf("it ends with %d, has called %q and says\n%s%s", r.code, m.called(t), r.stdout, r.stderr)
		}
	})
	t.Run("in CI", func(t *testing.T) {
		t.Parallel()
		m := newMachine(t, mends(t))
		r := m.compiler(t, terminal(t, ""), "CI=true")
		if r.code != 0 || strings.Contains(r.stdout, question) {
			t.Errorf("it ends with %d and says\n%s%s", r.code, r.stdout, r.stderr)
		}
	})
}
