package ci

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Something is seen of a command that is silent itself, and of one that says too much
// only the newest line.
func TestProgressIsSeen(t *testing.T) {
	t.Parallel()
	seen := filepath.Join(t.TempDir(), "seen")
	cmd := command(t, "progress", "what is done", "sh", "-c", `echo first; printf '10%%\r90%%\r'; until [ -e "$1" ]; do sleep 0.1; done`, "sh", seen)
	cmd.Env = append(os.Environ(), "PROGRESS_EVERY=0.1")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
		lines = append(lines, scanner.Text())
		if strings.HasSuffix(scanner.Text(), " s: 90%") { // so the command may end
			if err := os.WriteFile(seen, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	all := strings.Join(lines, "\n")
	if lines[0] != "== what is done" || strings.Contains(all, "first") || strings.Contains(all, "\r") {
		t.Errorf("it says %q", all)
	}
}

func TestProgressShowsWhatFails(t *testing.T) {
	t.Parallel()
	r := run(t, command(t, "progress", "what is done", "sh", "-c", "echo on stdout; echo on stderr >&2; exit 7"))
	if want := "== what is done\non stdout\non stderr\n"; r.code != 7 || r.stdout != want || !strings.Contains(r.stderr, "failed") {
		t.Errorf("it ends with %d and says %q and %q", r.code, r.stdout, r.stderr)
	}
}
