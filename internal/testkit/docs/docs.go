// Package docs is for tests of what the documentation shows: it reads a page's examples
// and tables. Pages are named by their path in the repository.
package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Read returns a page.
func Read(t testing.TB, page string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Root(t), page)) //nolint:gosec // the test says which
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Root returns the repository's folder. A test runs in that of its package.
func Root(t testing.TB) string {
	t.Helper()
	start, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatalf("no folder above %s has a go.work", start)
		}
	}
}

// Part returns what stands on a page between two texts.
func Part(t testing.TB, page, begin, end string) string {
	t.Helper()
	_, rest, found := strings.Cut(Read(t, page), begin)
	part, _, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has nothing between %q and %q", page, begin, end)
	}
	return part
}

// Block returns the first code block of a kind, such as "json server".
func Block(t testing.TB, page, kind string) string {
	t.Helper()
	return Part(t, page, "\n```"+kind+"\n", "\n```")
}

// Lines returns the lines of Block.
func Lines(t testing.TB, page, kind string) []string {
	t.Helper()
	return strings.Split(Block(t, page, kind), "\n")
}

// Table returns the rows of the table with a head, as cells without the spaces and
// back-quotes around them.
func Table(t testing.TB, page, head string) (rows [][]string) {
	t.Helper()
	for line := range strings.SplitSeq(Part(t, page, "\n"+head+"\n", "\n\n"), "\n") {
		if strings.HasPrefix(line, "| ---") || strings.HasPrefix(line, "|---") {
			continue
		}
		var row []string
		for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
			row = append(row, strings.Trim(cell, " `"))
		}
		rows = append(rows, row)
	}
	return rows
}
