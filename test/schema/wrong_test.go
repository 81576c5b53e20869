package schema

import (
	"testing"

	"github.com/entity-sync/entity-sync/internal/testkit/docs"
)

// wrong are messages that an end never says. Each has one thing wrong.
var wrong = [2][]string{
	byClient: {
		`{"action":"subscribe"}`,
		`{"action":"subscribe","body":[]}`,
		`{"action":"subscribe","ref":{},"body":{"topic":"news"}}`,
		`{"action":"subscribe","Ref":1,"body":{"topic":"news"}}`,
		`{"action":"subscribe","body":{"topic":"news","entity":"items","id":"1"}}`,
		`{"action":"subscribe","body":{"topic":"news","exact":1}}`,
		`{"action":"subscribe","body":{"topic":"news..uk"}}`,
		`{"action":"subscribe","body":{"topic":"news.*"}}`,
		`{"action":"subscribe","body":{"topic":"a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q"}}`,
		`{"action":"subscribe","body":{"entity":"items"}}`,
		`{"action":"subscribe","body":{"entity":"it ems","id":"1"}}`,
		`{"action":"secret","body":1}`,
		`{"action":"publish","body":{}}`,
		`{"action":"publish","body":{"topic":"*"}}`,
		`{"action":"publish","body":{"topic":[]}}`,
		`{"action":"publish","body":{"topic":["news","news"]}}`,
		`{"action":"publish","body":{"topic":"news","data":1,"event":{` + cloudEvent + `}}}`,
		`{"action":"publish","body":{"topic":"news","echo":"no"}}`,
		`{"action":"publish","body":{"topic":"news","event":{"specversion":"0.3","id":"1","source":"/s","type":"t"}}}`,
		`{"action":"publish","body":{"topic":"news","event":{` + cloudEvent + `,"time":"yesterday"}}}`,
		`{"action":"publish","body":{"topic":"news","event":{` + cloudEvent + `,"data":1,"data_base64":"aGk="}}}`,
		`{"action":"publish","body":{"topic":"news","event":{` + cloudEvent + `,"data_base64":"a"}}}`,
		`{"action":"publish","body":{"topic":"news","event":{` + cloudEvent + `,"Subject":"s"}}}`,
	},
	byNode: {
		`{"action":"unheard-of"}`,
		`{"action":"ack","ref":{}}`,
		`{"action":"update","body":{"entity":"items","id":"1","rows":[1]}}`,
		`{"action":"update","body":{"entity":"items","id":"1","version":"v","rows":[]}}`,
		`{"action":"current","body":{"entity":"items","id":"1"}}`,
		`{"action":"delete","body":{"entity":"items"}}`,
		`{"action":"delete","body":{"topic":"news"}}`,
		`{"action":"unsubscribed","body":{"topic":"news"}}`,
		`{"action":"unsubscribed","body":{"topic":"news","code":"bad_json","message":"m"}}`,
		`{"action":"expiring","body":{"seconds":0}}`,
		`{"action":"error","body":{"code":"unheard-of","message":"m"}}`,
		`{"action":"error","body":{"topic":"news","code":"unknown_entity","message":"m"}}`,
		`{"action":"error","body":{"entity":"items","id":"1","code":"unknown_topic","message":"m"}}`,
		`{"action":"error","body":{"index":-1,"code":"bad_topic","message":"m"}}`,
		`{"action":"error","body":{"index":0,"topic":"news","code":"bad_topic","message":"m"}}`,
		`{"action":"event","body":{"topic":"news","context":[],"event":{` + cloudEvent + `}}}`,
		`{"action":"event","body":{"topic":"news","context":["news"],"event":{"id":"1"}}}`,
		`{"action":"event","body":{"topic":"*","context":["*"],"event":{` + cloudEvent + `}}}`,
		`{"action":"event","body":{"topic":"news","context":["news"],"event":{` + cloudEvent + `,"time":1}}}`,
		`{"action":"gap","body":{"missed":1}}`,
		`{"action":"gap","body":{"topic":"news","missed":0}}`,
	},
}

// The schema refuses what an end never says, and what the other end says.
func TestTheSchemaRefusesWrongMessages(t *testing.T) {
	t.Parallel()
	open := mustCompile(t, read(t))
	for _, text := range wrong[byClient] {
		if open.client.Validate(parse(t, text)) == nil {
			t.Errorf("the schema lets a client say %s", text)
		}
	}
	for _, text := range wrong[byNode] {
		if open.node.Validate(parse(t, text)) == nil {
			t.Errorf("the schema lets a node say %s", text)
		}
	}
	for _, line := range docs.Lines(t, "docs/protocol.md", "json client") {
		if open.node.Validate(parse(t, line)) == nil {
			t.Errorf("the schema lets a node say %s", line)
		}
	}
	for _, line := range docs.Lines(t, "docs/protocol.md", "json server") {
		if open.client.Validate(parse(t, line)) == nil {
			t.Errorf("the schema lets a client say %s", line)
		}
	}
}
