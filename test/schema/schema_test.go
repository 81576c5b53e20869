package schema

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/entity-sync/entity-sync/internal/testkit/docs"
	"github.com/entity-sync/entity-sync/web/wire"
)

const (
	file = "docs/protocol.schema.json"
	id   = "urn:entity-sync.v2"
)

// schema is the file, compiled: what each end may say.
type schema struct{ client, node *jsonschema.Schema }

// document is the file, or a file that differs from it, as JSON is read.
type document = map[string]any

func read(t testing.TB) document {
	t.Helper()
	return parse(t, docs.Read(t, file)).(document)
}

func parse(t testing.TB, text string) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

func clone(t testing.TB, d document) document {
	t.Helper()
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, string(text)).(document)
}

func compile(d document) (s schema, err error) {
	c := jsonschema.NewCompiler()
	if err := c.AddResource(id, d); err != nil {
		return s, err
	}
	if s.client, err = c.Compile(id + "#/$defs/client"); err != nil {
		return s, err
	}
	s.node, err = c.Compile(id + "#/$defs/node")
	return s, err
}

func mustCompile(t testing.TB, d document) schema {
	t.Helper()
	s, err := compile(d)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// closed returns the document without its openness: a message of the wire, a key and a topic have
// no member that the document does not describe. Events stay open.
func closed(t testing.TB, d document) document {
	t.Helper()
	d = clone(t, d)
	defs := d["$defs"].(document)
	for _, def := range defs {
		properties, _ := def.(document)["properties"].(document)
		if action, _ := properties["action"].(document); action["const"] == nil {
			continue
		}
		def.(document)["unevaluatedProperties"] = false
		if body, _ := properties["body"].(document); body["$ref"] != nil || body["type"] == "object" {
			body["unevaluatedProperties"] = false
		}
	}
	defs["anyTarget"].(document)["unevaluatedProperties"] = false
	return d
}

// The messages that the page shows are those of the schema.
func TestTheSchemaTakesTheExamples(t *testing.T) {
	t.Parallel()
	s := mustCompile(t, closed(t, read(t)))
	for _, line := range docs.Lines(t, "docs/protocol.md", "json client") {
		if err := s.client.Validate(parse(t, line)); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	for _, line := range docs.Lines(t, "docs/protocol.md", "json server") {
		if err := s.node.Validate(parse(t, line)); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// What nodes and clients say is what the schema describes, each kind of message is said, and
// the schema takes no message that the node refuses for its shape.
func TestWhatIsSaidIsInTheSchema(t *testing.T) {
	t.Parallel()
	r := newRecord()
	for name, converse := range map[string]func(*testing.T, *record){
		"by the test": converse, "at limits": meetLimits, "by the Go client": useGo, "by the browser client": useBrowser,
	} {
		t.Run(name, func(t *testing.T) { converse(t, r) })
	}
	if t.Failed() {
		return
	}
	d := closed(t, read(t))
	s := mustCompile(t, d)
	for by, end := range []*jsonschema.Schema{byClient: s.client, byNode: s.node} {
		for text, value := range r.said[by] {
			if err := end.Validate(value); err != nil {
				t.Errorf("%s: %v", text, err)
			}
		}
	}
	for by, end := range []string{byClient: "client", byNode: "node"} {
		kinds := d["$defs"].(document)[end].(document)
		all := kinds["oneOf"].([]any)
		for i, kind := range all {
			kinds["oneOf"] = slices.Concat(all[:i], all[i+1:])
			lacking := mustCompile(t, d)
			if !refuses([]*jsonschema.Schema{byClient: lacking.client, byNode: lacking.node}[by], r.said[by]) {
				t.Errorf("no %s has said a message of %v", end, kind)
			}
		}
		kinds["oneOf"] = all
	}
	for code, text := range refused {
		if code == wire.CodeBadJSON {
			continue
		}
		if s.client.Validate(parse(t, text)) == nil {
			t.Errorf("the schema takes %s, which the node refuses as %s", text, code)
		}
	}
}

// refuses reports whether a schema refuses one of several messages.
func refuses(s *jsonschema.Schema, said map[string]any) bool {
	for _, value := range said {
		if s.Validate(value) != nil {
			return true
		}
	}
	return false
}
