package ci

import (
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// rooms are the library's packages, and which others each may import: the arrows between
// them lead one way. Those of internal that are not here may import one another alone, and
// so any room may import them.
var rooms = map[string]string{
	"shared":                   "",
	"bridge":                   "shared bridge/bus bridge/events bridge/internal/schedule internal/feed",
	"bridge/bus":               "shared",
	"bridge/bustest":           "shared bridge/bus",
	"bridge/events":            "shared internal/feed",
	"bridge/internal/schedule": "",
	"bridge/membus":            "shared bridge/bus",
	"bridge/nsqbus":            "shared bridge/bus internal/echo",
	"bridge/sealed":            "shared bridge/bus",
	"internal/feed":            "shared bridge/bus",
	"internal/echo":            "shared",
	"web":                      "shared bridge bridge/events web/wire web/internal/origin web/internal/reconsider web/internal/revocation web/internal/sendqueue web/internal/socket web/internal/timers web/internal/tokenbucket web/internal/websocket",
	"web/wire":                 "shared",
	"web/internal/origin":      "",
	"web/internal/reconsider":  "shared",
	"web/internal/revocation":  "shared web/wire",
	"web/internal/tokenbucket": "",
	"web/internal/sendqueue":   "web/internal/socket",
	"web/internal/socket":      "",
	"web/internal/timers":      "",
	"web/internal/websocket":   "web/internal/socket web/internal/timers",
	"web/client":               "shared web/wire",
	"web/js":                   "",
	"db":                       "shared db/internal/sqlstate",
	"db/outbox":                "shared db/internal/sqlstate",
	"db/internal/sqlstate":     "",
	"es":                       "shared bridge bridge/bus bridge/events bridge/membus bridge/nsqbus bridge/sealed web db db/outbox",

	// For tests.
	"internal/canary":        "shared bridge/bus",
	"internal/canary/gotest": "",
	"internal/canary/search": "internal/canary",
	"internal/clienttest":    "shared bridge/membus web es",
	"internal/pgtest":        "db internal/canary",
	"internal/stress":        "",

	"internal/testkit/nodetest": "shared es internal/canary",
	"internal/testkit/socket":   "shared web/wire",

	"web/js/testserver": "internal/clienttest web",
}

func TestThePackagesImportNothingUpwards(t *testing.T) {
	t.Parallel()
	const module = "github.com/entity-sync/entity-sync/"
	cmd := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")
	cmd.Dir = path.Join("..", "..")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(strings.ReplaceAll(line, module, ""))
		name, imports := words[0], words[1:]
		seen[name] = true
		allowed, placed := rooms[name]
		if !placed && !strings.HasPrefix(name, "internal/") {
			t.Errorf("%s has no place among the rooms", name)
		}
		for _, other := range imports {
			if _, room := rooms[other]; room && !slices.Contains(strings.Fields(allowed), other) {
				t.Errorf("%s imports %s", name, other)
			}
		}
	}
	for name := range rooms {
		if !seen[name] {
			t.Errorf("there is no package %s", name)
		}
	}
}
