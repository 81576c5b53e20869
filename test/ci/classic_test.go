package ci

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// knowClassic are the files that may use something of a file called classic.go, and what.
var knowClassic = map[string]string{
	"es/config.go":     "SecretByteHandler",
	"es/entitysync.go": "DatabaseHub NewDatabaseHub",
	"es/register.go":   "AddFetcher", // so that DatabaseHub.Fetch fetches what was registered in either way
	"web/config.go":    "SecretByteHandler",
}

// Everything that a file called classic.go declares is for the first users' programs, and
// for other files of that name.
func TestNothingIsMadeOfTheClassicInterface(t *testing.T) {
	t.Parallel()
	files := parseAll(t, filepath.Join("..", ".."))
	classic, elsewhere := make(map[string]declaration), make(map[string]declaration)
	for name, file := range files {
		if declared := namesIn(file, path.Dir(name)); isClassic(name) {
			maps.Copy(classic, declared)
		} else {
			maps.Copy(elsewhere, declared)
		}
	}
	for name := range elsewhere { // such as a method's of something else, too
		delete(classic, name)
	}
	if len(classic) < 20 {
		t.Fatalf("only %d names are declared in files called classic.go", len(classic))
	}
	used := make(map[string]bool)
	for name, file := range files {
		if isClassic(name) {
			continue
		}
		for word := range usedIn(file, path.Dir(name), classic) {
			used[name+" "+word] = true
			if !slices.Contains(strings.Fields(knowClassic[name]), word) {
				t.Errorf("%s uses %s, which is declared in a file called classic.go", name, word)
			}
		}
	}
	for name, words := range knowClassic {
		for word := range strings.FieldsSeq(words) {
			if !used[name+" "+word] {
				t.Errorf("%s does not use %s any more: take it off the list", name, word)
			}
		}
	}
}

// isClassic reports whether a file is of the classic interface. web/wire/classic.go is
// not: the classic wire is a wire as the others are.
func isClassic(name string) bool {
	return path.Base(name) == "classic.go" && path.Dir(name) != "web/wire"
}

// usedIn returns which of the names a file of the folder uses: in another folder than that
// of the name, after the package, or of any value if it is a method's.
func usedIn(file *ast.File, folder string, names map[string]declaration) map[string]bool {
	used, selected := make(map[string]bool), make(map[*ast.Ident]bool)
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr: // comes before the identifiers in it
			selected[n.Sel] = true
			d, known := names[n.Sel.Name]
			x, _ := n.X.(*ast.Ident)
			if known && !ast.IsExported(n.Sel.Name) && d.folder != folder {
				break // another's of that name
			}
			if known && (d.method || x != nil && x.Name == path.Base(d.folder)) {
				used[n.Sel.Name] = true
			}
		case *ast.Ident:
			if d, known := names[n.Name]; known && !selected[n] && d.folder == folder {
				used[n.Name] = true
			}
		}
		return true
	})
	return used
}

// declaration is of a name at the top of a file.
type declaration struct {
	folder string
	method bool
}

// parseAll returns the library's files, tests aside, by their path from its root.
func parseAll(t *testing.T, root string) map[string]*ast.File {
	t.Helper()
	files := make(map[string]*ast.File)
	for _, room := range []string{"bridge", "db", "es", "internal", "shared", "web"} {
		err := filepath.WalkDir(filepath.Join(root, room), func(file string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
				return err
			}
			name, err := filepath.Rel(root, file)
			if err != nil {
				return err
			}
			files[filepath.ToSlash(name)], err = parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// namesIn returns what a file of the folder declares at its top.
func namesIn(file *ast.File, folder string) map[string]declaration {
	names := make(map[string]declaration)
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			names[d.Name.Name] = declaration{folder, d.Recv != nil}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					names[spec.Name.Name] = declaration{folder, false}
					if i, ok := spec.Type.(*ast.InterfaceType); ok {
						for _, m := range i.Methods.List {
							for _, id := range m.Names {
								names[id.Name] = declaration{folder, true}
							}
						}
					}
				case *ast.ValueSpec:
					for _, id := range spec.Names {
						names[id.Name] = declaration{folder, false}
					}
				}
			}
		}
	}
	return names
}
