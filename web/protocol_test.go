package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/shared"
)

func protocol(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// examples returns the lines of the document's code block of the given kind.
func examples(t *testing.T, kind string) []string {
	t.Helper()
	_, block, found := strings.Cut(protocol(t), "```json "+kind+"\n")
	block, _, ended := strings.Cut(block, "\n```")
	if !found || !ended {
		t.Fatalf("docs/protocol.md has no block of %s frames", kind)
	}
	return strings.Split(block, "\n")
}

// Every frame that the document shows is one that the code makes, and the other
// way round.
func TestTheDocumentShowsTheFramesOfTheServer(t *testing.T) {
	var wire v2Wire
	version, err := bridge.ParseVersion("tp0ICeR8Qa1mYIZhG2hZnw")
	if err != nil {
		t.Fatal(err)
	}
	key := func(id string) shared.EntityKey { return shared.EntityKey{Entity: "items", ID: id} }
	made := [][]byte{
		v2Frame{Action: "ack", Ref: json.RawMessage("2")}.encode(),
		wire.Encode(&bridge.Update{Key: key("100"), Kind: bridge.KindRows, Version: version, Rows: [][]byte{[]byte(`{"id":"100","name":"hammer"}`)}}),
		wire.Encode(&bridge.Update{Key: key("101"), Kind: bridge.KindCurrent, Version: version}),
		wire.Encode(&bridge.Update{Key: key("100"), Kind: bridge.KindDeleted}),
		wire.Encode(&bridge.Update{Key: key("100"), Kind: bridge.KindForbidden}),
		wire.freshness(false),
		wire.freshness(true),
		wire.expiring(30 * time.Second),
		errorFrame(withRef(aboutKey(shared.ErrUnknownEntity, 0, shared.EntityKey{Entity: "nothing", ID: "1"}), json.RawMessage("3"))).encode(),
		errorFrame(withRef(aboutKey(shared.ErrBadKey, 2, key("")), json.RawMessage("4"))).encode(),
	}
	shown := examples(t, "server")
	if len(shown) != len(made) {
		t.Errorf("the document shows %d frames, the code makes %d", len(shown), len(made))
	}
	for i := range min(len(shown), len(made)) {
		if want := string(appendFrame(nil, 1, []byte(shown[i]))); string(made[i]) != want {
			t.Errorf("the document shows %s, the code makes %q", shown[i], made[i])
		}
	}
}

// tableAfter returns the first column of the table with the given head, without
// its back-quotes.
func tableAfter(t *testing.T, head string) (column []string) {
	t.Helper()
	_, table, found := strings.Cut(protocol(t), head+"\n")
	table, _, _ = strings.Cut(table, "\n\n")
	if !found {
		t.Fatalf("docs/protocol.md has no table %q", head)
	}
	for line := range strings.SplitSeq(table, "\n") {
		if cells := strings.Split(line, "|"); !strings.Contains(line, "---") {
			column = append(column, strings.Trim(cells[1], " `"))
		}
	}
	return column
}

// constants returns the values of the constants of this package whose names match.
func constants(t *testing.T, name string) (values []string) {
	t.Helper()
	files, err := parser.ParseDir(token.NewFileSet(), ".", nil, 0) //nolint:staticcheck // one package, no build tags
	if err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile(name)
	for _, file := range files["web"].Files {
		ast.Inspect(file, func(n ast.Node) bool {
			if v, ok := n.(*ast.ValueSpec); ok && match.MatchString(v.Names[0].Name) && len(v.Values) == 1 {
				if literal, ok := v.Values[0].(*ast.BasicLit); ok {
					values = append(values, strings.Trim(literal.Value, `"`))
				}
			}
			return true
		})
	}
	return values
}

func sorted(s []string) []string { slices.Sort(s); return s }

func TestTheDocumentListsEveryCode(t *testing.T) {
	if got, want := sorted(tableAfter(t, "| code | meaning |")), sorted(constants(t, "^code[A-Z]")); !slices.Equal(got, want) {
		t.Errorf("the document lists %q, the code has %q", got, want)
	}
	var ours []string
	for _, c := range tableAfter(t, "| code | when | reconnect? |") {
		if strings.HasPrefix(c, "4") {
			ours = append(ours, c)
		}
	}
	want := sorted(constants(t, "^Close[A-Z]"))
	if !slices.Equal(sorted(ours), want) {
		t.Errorf("the document lists the close codes %q, the code has %q", ours, want)
	}
	for _, c := range want {
		if n, err := strconv.Atoi(c); err != nil || n < 4400 || n > 4599 {
			t.Errorf("%s is not a close code of ours", c)
		}
	}
}

// Every error of the engine has a code, and nothing of any other is told.
func TestRefusalsHaveCodes(t *testing.T) {
	for err, want := range map[error]code{
		shared.ErrBadKey: codeBadKey, shared.ErrUnknownEntity: codeUnknownEntity, shared.ErrTooManySubscriptions: codeTooMany,
		shared.ErrForbidden: codeForbidden, shared.ErrUnauthenticated: codeUnauthenticated, shared.ErrClosed: codeUnavailable,
		errors.New(canary.Mark): codeUnavailable,
	} {
		r := refusalOf(fmt.Errorf("doing it: %w", err))
		if r.code != want || strings.Contains(r.message, canary.Mark) {
			t.Errorf("%v is told as %v", err, r)
		}
	}
}

func TestTheDocumentListsEveryAction(t *testing.T) {
	said := map[string]bool{}
	for _, line := range examples(t, "server") {
		var f v2Frame
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		said[f.Action] = true
	}
	if got, want := sorted(tableAfter(t, "| action | says |")), sorted(slices.Collect(maps.Keys(said))); !slices.Equal(got, want) {
		t.Errorf("the document explains %q and shows %q", got, want)
	}
}
