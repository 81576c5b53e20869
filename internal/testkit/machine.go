package testkit

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/entity-sync/entity-sync/internal/freeport"
)

// FreeAddr returns an address of 127.0.0.1 at which nothing listens.
func FreeAddr(t testing.TB) string {
	t.Helper()
	addr, err := freeport.Addr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// GoEnv returns a setting of the go command, such as GOMODCACHE.
func GoEnv(t testing.TB, name string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", name).Output() //nolint:gosec // a name of Go's own
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
