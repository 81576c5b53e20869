package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/client"
)

// printer shows a change of a key.
type printer func(before, now client.Update) error

func printerFor(format string, out io.Writer) (printer, error) {
	switch format {
	case "auto":
		if isTerminal(out) {
			return diffs(out, os.Getenv("NO_COLOR") == ""), nil
		}
		return jsonLines(out), nil
	case "diff":
		return diffs(out, isTerminal(out) && os.Getenv("NO_COLOR") == ""), nil
	case "json":
		return jsonLines(out), nil
	default:
		return nil, fmt.Errorf("the format is %q, want auto, json or diff", format)
	}
}

func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// jsonLines writes a line for each change.
func jsonLines(out io.Writer) printer {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	return func(_, now client.Update) error {
		return e.Encode(struct {
			shared.EntityKey
			Version string            `json:"version,omitempty"`
			Deleted bool              `json:"deleted,omitempty"`
			Rows    []json.RawMessage `json:"rows,omitempty"`
		}{now.Key, now.Version, now.Deleted, now.Rows})
	}
}

const (
	red   = "\x1b[31m"
	green = "\x1b[32m"
	bold  = "\x1b[1m"
	reset = "\x1b[0m"
)

// diffs shows the lines that went and those that came.
func diffs(out io.Writer, colour bool) printer {
	paint := func(colours, text string) string {
		if !colour {
			return text
		}
		return colours + text + reset
	}
	return func(before, now client.Update) error {
		var b strings.Builder
		b.WriteString(paint(bold, fmt.Sprintf("%s/%s", now.Key.Entity, now.Key.ID)))
		if now.Deleted {
			b.WriteString(paint(red, " has no row"))
		}
		b.WriteByte('\n')
		for _, line := range diff(linesOf(before), linesOf(now)) {
			switch line[0] {
			case '-':
				line = paint(red, line)
			case '+':
				line = paint(green, line)
			}
			b.WriteString(line)
			b.WriteByte('\n')
		}
		_, err := io.WriteString(out, b.String())
		return err
	}
}

// linesOf returns the rows, indented.
func linesOf(u client.Update) (lines []string) {
	for _, row := range u.Rows {
		var b bytes.Buffer
		if err := json.Indent(&b, row, "", "  "); err != nil {
			b.Reset()
			b.Write(row)
		}
		for line := range strings.SplitSeq(b.String(), "\n") {
			lines = append(lines, printable(line))
		}
	}
	return lines
}

// printable drops control characters, which a terminal would act on.
func printable(line string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, line)
}

// maxDiff bounds the lines that are compared: comparing takes time by their product.
const maxDiff = 1000

// diff returns, in order, the lines that are only in a, with "- " before them, and those only
// in b, with "+ ". If a is empty, all of b is new.
func diff(a, b []string) (lines []string) {
	if len(a) > maxDiff || len(b) > maxDiff {
		a = nil
	}
	common := make([][]int, len(a)+1) // the longest common subsequence of a[i:] and b[j:]
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1]:
			lines = append(lines, "- "+a[i])
			i++
		default:
			lines = append(lines, "+ "+b[j])
			j++
		}
	}
	return lines
}
