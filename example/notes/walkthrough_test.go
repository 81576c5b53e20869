package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/internal/testkit/docs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// block is one of the page's, fenced.
type block struct{ language, text string }

// blocks returns those of docs/postgres.md.
func blocks(t *testing.T) (all []block) {
	t.Helper()
	page := docs.Read(t, "docs/postgres.md")
	found := regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```").FindAllStringSubmatch(page, -1)
	if fences := strings.Count(page, "```"); fences != 2*len(found) {
		t.Fatalf("%d fences make %d blocks", fences, len(found))
	}
	for _, b := range found {
		all = append(all, block{b[1], b[2]})
	}
	return all
}

// file returns the name that the block's first line gives to the block, or "" where
// the block is no file.
func (b block) file() string {
	first, _, _ := strings.Cut(b.text, "\n")
	if name := regexp.MustCompile(`^(?:-- |// |<!doctype html><!-- )(\w+\.\w+)`).FindStringSubmatch(first); name != nil {
		return name[1]
	}
	return ""
}

// A stranger goes through docs/postgres.md: from an empty cluster to a page that changes
// when psql writes. Each block is a file, is run by the shell, or is a piece of a
// program, and they are taken in their order.
func TestTheWalkThrough(t *testing.T) {
	cluster, err := pgtest.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cluster.Close() })
	w := newWalk(t, cluster)
	for i, b := range blocks(t) {
		switch name := b.file(); {
		case name != "":
			w.write(name, b.text)
		case b.language == "sh" && strings.HasSuffix(b.text, "go run .\n"):
			w.serve(b.text)
			w.openPages()
		case b.language == "sh":
			w.shell(b.text)
			w.expect("ann", "from psql")
		case b.language == "go":
			w.piece(fmt.Sprintf("Block%d", i+1), b.text)
		default:
			t.Errorf("block %d, in %q, is not run: %s", i+1, b.language, b.text)
		}
	}
	w.expect("bob")
	w.shell(`psql postgres://notes_app:app@localhost/notes -c "begin" -c "select set_config('app.user', 'bob', true)" -c "insert into notes (owner, text) values ('bob', 'his own')" -c "commit"`)
	w.expect("bob", "his own")
	w.expect("ann", "from psql")
	w.shell(`psql postgres://notes_owner:owner@localhost/notes -c "update notes set owner = 'bob' where owner = 'ann'"`)
	w.expect("ann")
	w.expect("bob", "from psql", "his own")
	w.refuses("bob", "ann")
}

// The files of this folder are those of the document, for who has the repository.
func TestTheDocumentShowsTheFiles(t *testing.T) {
	shown := 0
	for _, b := range blocks(t) {
		name := b.file()
		if name == "" {
			continue
		}
		shown++
		text, err := os.ReadFile(filepath.Join(".", name))
		if err != nil {
			t.Fatal(err)
		}
		want := b.text
		if name == "main.go" { // its first line is the command's own comment
			_, code, _ := strings.Cut(string(text), "package main")
			text, want = []byte("package main"+code), strings.TrimPrefix(want, "// main.go\n")
		}
		if string(text) != want {
			t.Errorf("%s is not as docs/postgres.md shows it", name)
		}
	}
	if shown != 4 {
		t.Errorf("docs/postgres.md shows %d files, want 4", shown)
	}
}
