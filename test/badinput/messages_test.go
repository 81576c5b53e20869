package badinput

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestB09WrongTypes(t *testing.T) {
	exchanges := map[string]exchange{
		"an unknown action":       says(`{"action":"`+canary+`","ref":1}`, "error 1 unknown_action"),
		"no action":               says(`{"ref":1,"body":"`+canary+`"}`, "error 1 bad_message"),
		"an action that is null":  says(`{"action":null,"ref":1}`, "error 1 bad_message"),
		"a number as action":      says(`{"action":7,"ref":1}`, "error 1 bad_message"),
		"a list as action":        says(`{"action":["subscribe"],"ref":1}`, "error 1 bad_message"),
		"a number as id":          says(`{"action":"subscribe","ref":1,"body":{"entity":"items","id":100}}`, "error 1 bad_message"),
		"a list as entity":        says(`{"action":"subscribe","ref":1,"body":{"entity":["`+canary+`"],"id":"1"}}`, "error 1 bad_message"),
		"a text as snapshot":      says(`{"action":"subscribe","ref":1,"body":{"entity":"items","id":"1","snapshot":"`+canary+`"}}`, "error 1 bad_message"),
		"no body":                 says(`{"action":"subscribe","ref":1}`, "error 1 bad_message"),
		"a body that is null":     says(`{"action":"subscribe","ref":1,"body":null}`, "error 1 bad_message"),
		"a text as body":          says(`{"action":"subscribe","ref":1,"body":"`+canary+`"}`, "error 1 bad_message"),
		"a list of no keys":       says(`{"action":"unsubscribe","ref":1,"body":[]}`, "error 1 bad_message"),
		"a list of keys and else": says(`{"action":"subscribe","ref":1,"body":[`+key+`,"`+canary+`"]}`, "error 1 bad_message"),
		"an object as ref":        says(`{"action":"unsubscribe","ref":{"`+canary+`":1},"body":`+key+`}`, "error bad_message"),
		"a long ref":              says(`{"action":"unsubscribe","ref":"`+strings.Repeat(canary, 100)+`","body":`+key+`}`, "error bad_message"),
		"a list":                  says(`["`+canary+`"]`, "error bad_message"),
		"a text":                  says(`"`+canary+`"`, "error bad_message"),
		"a number":                says(`7`, "error bad_message"),
		"null":                    says(`null`, "error bad_message"),
		"a name twice":            says(`{"action":"subscribe","ref":1,"body":{"entity":"items","id":"1","id":"`+canary+`"}}`, "error 1 bad_message"),
		"a name in another case":  says(`{"action":"subscribe","ref":1,"body":{"entity":"items","id":"1","ID":"`+canary+`"}}`, "error 1 bad_message"),
		"two bodies":              says(`{"action":"subscribe","ref":1,"body":`+key+`,"Body":"`+canary+`"}`, "error 1 bad_message"),
	}
	n := startNode(t, nodeConfig{})
	n.check(t, exchanges)
	// A version means nothing on the classic wire.
	version := `{"action":"subscribe","ref":1,"body":{"entity":"items","id":"1","version":7}}`
	if err := n.try(v2, says(version, "error 1 bad_message")); err != nil {
		t.Errorf("a number as version: %v", err)
	}
	m := n.endure(t, abuse{row: "B9", one: n.repeat(exchanges, 3)})
	m.untouched(t)
}

// untouched checks that the hostile clients watch nothing, but for the key that they
// probe with.
func (m measured) untouched(t *testing.T) {
	t.Helper()
	if got := m.during.Keys - m.was.Keys; got > 1 {
		t.Errorf("the hostile clients watch %d keys, want the one that they probe with", got)
	}
}

func TestB10EmptyKeys(t *testing.T) {
	refused := []string{"error 1 bad_key", "ack 1"}
	exchanges := map[string]exchange{}
	for name, body := range map[string]string{
		"empty entity": `{"entity":"","id":"` + canary + `"}`, "empty id": `{"entity":"items","id":""}`,
		"no entity": `{"id":"` + canary + `"}`, "no id": `{"entity":"items"}`, "neither": `{}`,
		"null for an id": `{"entity":"items","id":null}`, "null in a list": `[null]`,
	} {
		exchanges[name] = says(`{"action":"subscribe","ref":1,"body":`+body+`}`, refused...)
	}
	n := startNode(t, nodeConfig{})
	n.check(t, exchanges)
	m := n.endure(t, abuse{row: "B10", one: n.repeat(exchanges, 5)})
	m.untouched(t)
}

func TestB11UnknownEntities(t *testing.T) {
	exchanges := map[string]exchange{}
	for _, entity := range []string{"unregistered", "ITEMS", "items2", "es.sessions"} {
		exchanges[entity] = says(`{"action":"subscribe","ref":1,"body":{"entity":"`+entity+`","id":"1"}}`, "error 1 unknown_entity", "ack 1")
	}
	n := startNode(t, nodeConfig{})
	n.check(t, exchanges)
	topics, before := n.topics(t), n.measure(t, false)
	m := n.endure(t, abuse{row: "B11", one: n.repeat(exchanges, 10)})
	m.untouched(t)
	after := n.measure(t, false)
	if got := n.topics(t); !slices.Equal(got, topics) || slices.Contains(got, "unregistered") {
		t.Errorf("nsqd has the topics %q, before it had %q", got, topics)
	}
	if len(after.Entities) != len(before.Entities) {
		t.Errorf("the node knows %d entity types, before it knew %d", len(after.Entities), len(before.Entities))
	}
	if got, probes := m.during.Foreign-m.was.Foreign, int64(m.frames/len(exchanges)); got > probes {
		t.Errorf("%d fetches for hostile clients, who have probed %d times at most", got, probes)
	}
	if strings.Contains(n.output(t), "unregistered") {
		t.Error("the log names what a client has named")
	}
}

func TestB13LongAndUnprintableNames(t *testing.T) {
	subscribe := func(entity, id string) string {
		return fmt.Sprintf(`{"action":"subscribe","ref":1,"body":{"entity":"%s","id":"%s","snapshot":false}}`, entity, id)
	}
	refused := []string{"error 1 bad_key", "ack 1"}
	exchanges := map[string]exchange{
		"an id of 256 bytes":          says(subscribe("items", strings.Repeat("x", 256)), refused...),
		"an id of 20 KB":              says(subscribe("items", strings.Repeat(canary, 2000)), refused...),
		"an id of 128 letters":        says(subscribe("items", strings.Repeat("é", 128)), refused...),
		"a line feed in an id":        says(subscribe("items", canary+`\n`), refused...),
		"NUL in an id":                says(subscribe("items", canary+`\u0000`), refused...),
		"half a surrogate pair":       says(subscribe("items", canary+`\ud800`), refused...),
		"DEL in an id":                says(subscribe("items", canary+`\u007f`), refused...),
		"a space in an entity":        says(subscribe("a "+canary, "1"), refused...),
		"a line feed in an entity":    says(subscribe(canary+`\n`, "1"), refused...),
		"an entity that is ephemeral": says(subscribe("items#ephemeral", "1"), refused...),
		"an entity of 65 bytes":       says(subscribe(strings.Repeat("x", 65), "1"), refused...),
		"an entity of 20 KB":          says(subscribe(strings.Repeat(canary, 2000), "1"), refused...),
	}
	n := startNode(t, nodeConfig{})
	n.check(t, exchanges)
	n.check(t, map[string]exchange{
		"an id of 1 MB":      ends(1009, text(subscribe("items", strings.Repeat("x", 1<<20)))),
		"an id of 255 bytes": says(subscribe("items", strings.Repeat("x", 255)), "ack 1"),
	})
	m := n.endure(t, abuse{row: "B13", one: n.repeat(exchanges, 1)})
	m.untouched(t)
}

func TestB21Secrets(t *testing.T) {
	secret := func(body string) string { return `{"action":"secret","ref":1,"body":` + body + `}` }
	exchanges := map[string]exchange{
		"4,097 bytes":   says(secret(`"`+strings.Repeat("x", 4097)+`"`), "error 1 bad_message"),
		"20 KB":         says(secret(`"`+strings.Repeat(canary, 2000)+`"`), "error 1 bad_message"),
		"a number":      says(secret(`7`), "error 1 bad_message"),
		"null":          says(secret(`null`), "error 1 bad_message"),
		"an object":     says(secret(`{"secret":"`+canary+`"}`), "error 1 bad_message"),
		"a list":        says(secret(`["`+canary+`"]`), "error 1 bad_message"),
		"none":          says(`{"action":"secret","ref":1}`, "error 1 bad_message"),
		"a good one":    says(secret(`"`+canary+`"`), "ack 1"), // not to be logged with what is refused
		"in the action": says(`{"action":"secret `+canary+`","ref":1}`, "error 1 unknown_action"),
	}
	n := startNode(t, nodeConfig{})
	n.check(t, exchanges)
	n.check(t, map[string]exchange{
		"1 MB":        ends(1009, text(secret(`"`+strings.Repeat("x", 1<<20)+`"`))),
		"4,096 bytes": says(secret(`"`+strings.Repeat("x", 4096)+`"`), "ack 1"),
	})
	n.endure(t, abuse{row: "B21", one: n.repeat(exchanges, 1)})

	// NUL is a byte like any other in a secret, and what stands in a URL or in a
	// header is none.
	for name, ask := range map[string]struct{ request, say, want string }{
		"NUL":     {n.upgrade(classic), `{"action":"secret","body":"` + canary + `\u0000"}`, `"for":"` + canary + `\u0000"`},
		"the URL": {strings.Replace(n.upgrade(classic), path, path+"?secret="+canary+"&token="+canary, 1), "{}", `"for":""`},
		"headers": {n.upgrade(classic, "Secret: "+canary, "Authorization: Bearer "+canary, "Cookie: secret="+canary), "{}", `"for":""`},
	} {
		h, err := n.dial()
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		h.wire = classic
		if response, err := h.request(ask.request); err != nil || response.StatusCode != 101 {
			t.Errorf("%s: %v, %v", name, response, err)
			continue
		}
		if err := h.say(text(ask.say), h.probe()); err != nil {
			t.Fatal(err)
		}
		if f, err := h.hear(); err != nil || !strings.Contains(f.payload, ask.want) {
			t.Errorf("%s: got %s, %v, want a row that has %s", name, f.payload, err, ask.want)
		}
	}
}

func TestB26OwnMessagesWithoutAHandler(t *testing.T) {
	exchanges := map[string]exchange{
		"an object":          says(`{"hello":"`+canary+`"}`, "error bad_message"),
		"an empty action":    says(`{"action":"","ref":1,"body":"`+canary+`"}`, "error 1 bad_message"),
		"an empty object":    says(`{}`, "error bad_message"),
		"a list":             says(`["`+canary+`"]`, "error bad_message"),
		"a text":             says(`"`+canary+`"`, "error bad_message"),
		"as large as it may": says(`{"x":"`+strings.Repeat("x", limit-8)+`"}`, "error bad_message"),
	}
	n := startNode(t, nodeConfig{})
	n.check(t, exchanges)
	m := n.endure(t, abuse{row: "B26", one: n.repeat(exchanges, 1)})
	m.untouched(t)
}
