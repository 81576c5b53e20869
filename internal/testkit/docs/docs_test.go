package docs

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestWhatAPageShows(t *testing.T) {
	root := t.TempDir()
	deep := filepath.Join(root, "a", "package")
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	page := "# Page\n\n```json client\n{\"a\":1}\n{\"b\":2}\n```\n\n| code | meaning |\n| --- | --- |\n| `one` | the first |\n| `two` | the second |\n\nThe end.\n"
	for name, text := range map[string]string{"go.work": "", "page.md": page} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(deep)
	if got, want := Lines(t, "page.md", "json client"), []string{`{"a":1}`, `{"b":2}`}; !reflect.DeepEqual(got, want) {
		t.Errorf("the block is %q, want %q", got, want)
	}
	if got, want := Table(t, "page.md", "| code | meaning |"), [][]string{{"one", "the first"}, {"two", "the second"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("the table is %q, want %q", got, want)
	}
	if got, want := Part(t, "page.md", "# ", "\n"), "Page"; got != want {
		t.Errorf("the part is %q, want %q", got, want)
	}
}
