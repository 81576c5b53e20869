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

// Every link to a file leads to one.
func TestLinksInTheDocsLeadSomewhere(t *testing.T) {
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "../README.md", "../CONTRIBUTING.md", "../CHANGELOG.md", "../example/README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		text = regexp.MustCompile("(?s)```.*?```|`[^`]*`").ReplaceAll(text, nil) // f[T](x) is no link
		for _, link := range regexp.MustCompile(`\]\(([^)#]+)[^)]*\)`).FindAllSubmatch(text, -1) {
			target := string(link[1])
			if strings.Contains(target, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), target)); err != nil {
				t.Errorf("%s links to %s: %v", page, target, err)
			}
		}
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
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`\b(Test|Fuzz)[A-Z]\w+`).FindAllString(string(text), -1) {
			if !strings.Contains(code.String(), "func "+name+"(") {
				t.Errorf("%s names %s, which is no test", page, name)
			}
		}
	}
}

// Every field of es.Config that the documents name is there.
func TestTheDocsNameFieldsThatExist(t *testing.T) {
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	paths := regexp.MustCompile(`(\w+\.)?Config\.([A-Z][\w.]*\w)|[\x60 ]((?:Web|NSQ|Bridge)\.[A-Z]\w+)`)
	seen := 0
	for _, page := range append(pages, "../README.md", "../example/README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range paths.FindAllStringSubmatch(string(text), -1) {
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

// The Go client's page shows the example that is run.
func TestTheDocsShowTheClientsExample(t *testing.T) {
	shown := docs.Block(t, "docs/clients-go.md", "go") + "\n"
	if !strings.Contains(docs.Read(t, "web/client/example_test.go"), shown) {
		t.Error("the program in docs/clients-go.md is not ExampleWatch")
	}
}
