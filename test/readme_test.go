package test

import (
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/testkit/docs"
)

// The README's program is the one that example/minimal compiles and tests.
func TestTheREADMEShowsTheMinimalProgram(t *testing.T) {
	shown := docs.Block(t, "README.md", "go") + "\n"
	_, code, _ := strings.Cut(docs.Read(t, "example/minimal/main.go"), "package main") // after the command's own comment
	if shown != "package main"+code {
		t.Error("the program in README.md is not example/minimal/main.go")
	}
}

// globs find the pages, and the measurements that they link to.
var globs = []string{"../*.md", "../docs/*.md", "../example/README.md", "../bench/README.md", "../bench/results/*.md", "../test/*/results/*.md"}

// readPages returns all of them by their paths.
func readPages(t *testing.T) map[string]string {
	t.Helper()
	pages := make(map[string]string)
	for _, glob := range globs {
		found, err := filepath.Glob(glob)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s finds nothing (%v)", glob, err)
		}
		for _, path := range found {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			pages[path] = string(text)
		}
	}
	return pages
}

var (
	blocks  = regexp.MustCompile("(?s)\n```.*?\n```")
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	link    = regexp.MustCompile(`\]\(([^)#]*)(?:#([^)]*))?\)`)
	// What GitHub leaves out of a heading when it makes an anchor of it.
	punctuation = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors returns those of a page's headings.
func anchors(text string) map[string]bool {
	all := make(map[string]bool)
	for _, h := range heading.FindAllStringSubmatch(blocks.ReplaceAllString(text, ""), -1) {
		all[strings.ReplaceAll(punctuation.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-")] = true
	}
	return all
}

// Every link to a file leads to one, and every link to a heading to one.
func TestLinksInTheDocsLeadSomewhere(t *testing.T) {
	pages := readPages(t)
	seen := 0
	for page, text := range pages {
		text = blocks.ReplaceAllString(text, "")
		prose := regexp.MustCompile("`[^`]*`").ReplaceAllString(text, "") // f[T](x) is no link
		for _, to := range link.FindAllStringSubmatch(prose, -1) {
			if strings.Contains(to[1], "://") {
				continue
			}
			target := page
			if to[1] != "" {
				target = filepath.Join(filepath.Dir(page), to[1])
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", page, to[1], err)
				continue
			}
			if to[2] == "" {
				continue
			}
			seen++
			if !anchors(pages[target])[to[2]] {
				t.Errorf("%s links to the heading #%s of %s, which has none", page, to[2], target)
			}
		}
	}
	if seen < 50 {
		t.Errorf("the pages have %d links to headings, which are fewer than there were", seen)
	}
}

// Every test that the documents name is there.
func TestTheDocsNameTestsThatExist(t *testing.T) {
	var code strings.Builder
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		code.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for page, text := range readPages(t) {
		for _, name := range regexp.MustCompile(`\b(Test|Fuzz)[A-Z]\w+`).FindAllString(text, -1) {
			if !strings.Contains(code.String(), "func "+name+"(") {
				t.Errorf("%s names %s, which is no test", page, name)
			}
		}
	}
}

// Every field of es.Config that the documents name is there.
func TestTheDocsNameFieldsThatExist(t *testing.T) {
	paths := regexp.MustCompile(`(\w+\.)?Config\.([A-Z][\w.]*\w)|[\x60 ]((?:Web|NSQ|Bridge)\.[A-Z]\w+)`)
	seen := 0
	for page, text := range readPages(t) {
		if page == "../CHANGELOG.md" {
			continue // it may name what was
		}
		for _, m := range paths.FindAllStringSubmatch(text, -1) {
			if m[1] != "" && m[1] != "es." {
				continue // another Config
			}
			seen++
			in := reflect.TypeFor[es.Config]()
			for name := range strings.SplitSeq(m[2]+m[3], ".") {
				f, ok := in.FieldByName(name)
				if !ok {
					t.Errorf("%s names %s, which es.Config does not have", page, m[2]+m[3])
					break
				}
				if in = f.Type; in.Kind() == reflect.Pointer {
					in = in.Elem()
				}
			}
		}
	}
	if seen < 50 {
		t.Errorf("the documents name %d fields, which are fewer than there were", seen)
	}
}

// The recipe of events shows the example that is run.
func TestTheDocsShowTheExampleOfEvents(t *testing.T) {
	shown := docs.Block(t, "docs/recipes.md", "go example") + "\n"
	if !strings.Contains(docs.Read(t, "es/topics_example_test.go"), shown) {
		t.Error("the functions in docs/recipes.md are not those of ExampleRegisterChannel")
	}
}

// The Go client's page shows the example that is run.
func TestTheDocsShowTheClientsExample(t *testing.T) {
	shown := docs.Block(t, "docs/clients.md", "go example") + "\n"
	if !strings.Contains(docs.Read(t, "web/client/example_test.go"), shown) {
		t.Error("the program in docs/clients.md is not ExampleWatch")
	}
}
