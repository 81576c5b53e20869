package proxies

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// blockOf returns what docs/proxies.md says to paste for a proxy: the one block of that
// language.
func blockOf(t *testing.T, language string) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/proxies.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllSubmatch(page, -1)
	if len(blocks) != 1 {
		t.Fatalf("docs/proxies.md has %d blocks for %s, want 1", len(blocks), language)
	}
	return string(blocks[0][1])
}

// substitute puts the test's own addresses and files in the place of the page's, each of
// which must be there.
func substitute(t *testing.T, block string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(block, pairs[i]) {
			t.Fatalf("the block has no %q:\n%s", pairs[i], block)
		}
		block = strings.ReplaceAll(block, pairs[i], pairs[i+1])
	}
	return block
}

// wantShown compares a file, from the last comment about the documents on, with the
// page's one block of Go that has its first line.
func wantShown(t *testing.T, file, page string) {
	t.Helper()
	code, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, shown, found := strings.Cut(string(code), "a test compares the two.\n")
	if !found {
		t.Fatalf("%s does not say what of it is shown", file)
	}
	// On the page the proxies have addresses of a network of their own.
	shown = strings.ReplaceAll(shown, "127.0.0.1/32", "10.0.0.0/28")
	text, err := os.ReadFile("../../docs/" + page)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "```go\n"+shown+"```") {
		t.Errorf("docs/%s does not show the code of %s", page, file)
	}
}
