package ci

import (
	"bytes"
	"errors"
	"os/exec"
	"path/filepath"
	"testing"
)

// script is a run of a script, which has ended.
type script struct {
	stdout, stderr string
	code           int
}

// command is that of a script in .ci.
func command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../.ci", name))
	if err != nil {
		t.Fatal(err)
	}
	return exec.CommandContext(t.Context(), path, args...)
}

func run(t *testing.T, cmd *exec.Cmd) script {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return script{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}
