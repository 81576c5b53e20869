package canary

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// Hit is a secret that got out.
type Hit struct {
	Path string
	Line int
	Test string // whose output it is, where that is known
	Text string // of the line, around the secret
}

func (h Hit) String() string {
	return fmt.Sprintf("%s:%d: %s: %q", h.Path, h.Line, h.Test, h.Text)
}

// Result is the outcome of a search.
type Result struct {
	Files int
	Bytes int64
	Hits  []Hit
}

// Find searches every file. It returns an error if it cannot read one, or if the
// decoy of one of the places is nowhere.
func Find(kept fs.FS, places ...Place) (r Result, err error) {
	missing, owners := map[string]bool{}, map[string]string{} // owners are tests, by the folder of their files
	for _, p := range places {
		missing[Decoy(p)] = true
	}
	err = fs.WalkDir(kept, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := fs.ReadFile(kept, name)
		if err != nil {
			return err
		}
		for decoy := range missing {
			if bytes.Contains(text, []byte(decoy)) {
				delete(missing, decoy)
			}
		}
		for line := range bytes.Lines(text) {
			if dir, test, ok := artifacts(line); ok {
				owners[dir] = test
			}
		}
		r.Files++
		r.Bytes += int64(len(text))
		r.Hits = append(r.Hits, hits(name, text)...)
		return nil
	})
	for i := range r.Hits {
		h := &r.Hits[i]
		for dir := path.Dir(h.Path); h.Test == "" && dir != "."; dir = path.Dir(dir) {
			h.Test = owners[path.Base(dir)]
		}
	}
	for decoy := range missing {
		err = errors.Join(err, fmt.Errorf("%s is nowhere: the output that should have it was not searched", decoy))
	}
	return r, err
}

func hits(name string, text []byte) (all []Hit) {
	if !shows(text) {
		return nil
	}
	test, number := "", 0
	for line := range bytes.Lines(text) {
		number++
		if name, ok := running(line); ok {
			test = name
		}
		if shows(line) {
			all = append(all, Hit{name, number, test, excerpt(line)})
		}
	}
	return all
}

// running says whose output follows, in that of go test -v.
func running(line []byte) (test string, ok bool) {
	for _, says := range []string{"=== RUN ", "=== CONT ", "=== NAME "} {
		if rest, ok := bytes.CutPrefix(line, []byte(says)); ok {
			return string(bytes.TrimSpace(rest)), true
		}
	}
	return "", false
}

// artifacts says which test has its files in a folder, by the folder's name.
func artifacts(line []byte) (dir, test string, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte("=== ARTIFACTS "))
	if !ok {
		return "", "", false
	}
	test, dir, _ = strings.Cut(string(bytes.TrimSpace(rest)), " ")
	return path.Base(dir), test, true
}

func shows(text []byte) bool {
	for _, form := range forms {
		if bytes.Contains(text, []byte(form)) {
			return true
		}
	}
	return false
}

const excerptBytes = 300

// excerpt returns what is around the first secret of a line.
func excerpt(line []byte) string {
	at := len(line)
	for _, form := range forms {
		if i := bytes.Index(line, []byte(form)); i >= 0 {
			at = min(at, i)
		}
	}
	begin := max(0, at-excerptBytes/2)
	return string(bytes.TrimSpace(line[begin:min(len(line), begin+excerptBytes)]))
}

// forms are what a mark looks like in a text: as it is, in hexadecimal, in base64
// wherever it begins, and as fmt prints bytes.
var forms = formsOf(marks)

func formsOf(marks []string) (all []string) {
	for _, m := range marks {
		small := hex.EncodeToString([]byte(m))
		all = append(all, m, small, strings.ToUpper(small), strings.Trim(fmt.Sprintf("%d", []byte(m)), "[]"))
		for offset := range 3 {
			all = append(all, inBase64(m, offset))
		}
	}
	return all
}

// inBase64 returns the characters that the mark alone decides, where so many bytes
// are before it.
func inBase64(mark string, offset int) string {
	encoded := base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("x", offset) + mark))
	const bits = 6 // of a character
	from := (8*offset + bits - 1) / bits
	to := 8 * (offset + len(mark)) / bits
	return encoded[from:to]
}
