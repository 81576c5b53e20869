package badinput

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// fuzzed is what reads something that others have written, by the fuzz target that
// tries it.
var fuzzed = map[string]string{
	"FuzzFrames":           "frames of a connection, on both wires",
	"FuzzV2Message":        "messages of a client, on the v2 wire",
	"FuzzClassicMessage":   "messages of a client, on the classic wire",
	"FuzzRead":             "objects and lists, by the letter, against encoding/json",
	"FuzzValidate":         "keys",
	"FuzzParseVersion":     "versions that a client comes back with",
	"FuzzDecodeMessage":    "messages on the bus",
	"FuzzDecodeFast":       "messages on the bus as nodes write them, against encoding/json",
	"FuzzEncodeFast":       "keys as nodes write them on the bus, against encoding/json",
	"FuzzMessageRoundTrip": "messages on the bus, there and back",
	"FuzzUnseal":           "messages that carry an HMAC, there and back",
	"FuzzEntityOf":         "messages on a shared topic",
	"FuzzParse":            "revocations, there and back",
	"FuzzTopic":            "names of topics, there and back",
	"FuzzParseNodes":       "answers of nsqlookupd",
	"FuzzReadReply":        "replies of a node, which the Go client reads",
	"FuzzAbout":            "replies of a node, as the Go client takes them",
	"FuzzParseEvent":       "events, there and back",
	"FuzzDecodeRecord":     "events on the bus, there and back",
	"FuzzTopicValidate":    "topics, by another reading of their rules",
}

// Every parser has a fuzz target, make test runs them all, and the document names
// them.
func TestB29EveryParserIsFuzzed(t *testing.T) {
	found := map[string]bool{}
	target := regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)
	err := filepath.WalkDir("../..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, match := range target.FindAllSubmatch(text, -1) {
			found[string(match[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := slices.Sorted(maps.Keys(found)), slices.Sorted(maps.Keys(fuzzed)); !slices.Equal(got, want) {
		t.Errorf("there are the fuzz targets %q, want %q", got, want)
	}
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil || !strings.Contains(string(makefile), "./.ci/fuzz 10000x") {
		t.Errorf("make test does not run them (%v)", err)
	}
	doc, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range fuzzed {
		if !strings.Contains(string(doc), "`"+name+"`") {
			t.Errorf("docs/security.md does not name %s", name)
		}
	}
}
