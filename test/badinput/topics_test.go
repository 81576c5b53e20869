package badinput

import (
	"strings"
	"testing"
)

func TestB30MalformedTopics(t *testing.T) {
	subscribe := func(target string) string { return `{"action":"subscribe","ref":1,"body":` + target + `}` }
	publish := func(body string) string { return `{"action":"publish","ref":1,"body":` + body + `}` }
	exchanges, once := map[string]exchange{}, map[string]exchange{}
	for name, topic := range map[string]string{
		"an empty topic": "", "an empty segment": canary + "..x", "a dot at the end": canary + ".", "a star in it": canary + ".*",
		"17 segments": canary + strings.Repeat(".x", 16), "256 bytes": canary + strings.Repeat("x", 256-len(canary)), "20 KB": strings.Repeat(canary, 2000),
		"128 letters": strings.Repeat("é", 128), "NUL": canary + `\u0000`, "a line feed": canary + `\n`, "DEL": canary + `\u007f`, "half a surrogate pair": canary + `\ud800`,
	} {
		exchanges[name+", subscribed to"] = says(subscribe(`{"topic":"`+topic+`"}`), "error 1 bad_topic", "ack 1")
		once[name+", in a list"] = says(subscribe(`[`+key+`,{"topic":"`+topic+`"}]`), "error 1 bad_topic", "ack 1", "update 1")
		exchanges[name+", published to"] = says(publish(`{"topic":"`+topic+`"}`), "error 1 bad_topic")
		exchanges[name+", in a list of a publication"] = says(publish(`{"topic":["news","`+topic+`"]}`), "error 1 bad_topic")
	}
	for name, target := range map[string]string{
		"a number": `{"topic":7}`, "a list": `{"topic":["` + canary + `"]}`, "an object": `{"topic":{"` + canary + `":1}}`,
		"a key besides": `{"topic":"news","entity":"` + canary + `","id":"1"}`, "a text as exact": `{"topic":"news","exact":"` + canary + `"}`,
		"a number as after": `{"topic":"news","after":7}`, "twice": `{"topic":"news","topic":"` + canary + `"}`, "in another case": `{"topic":"news","Topic":"` + canary + `"}`,
	} {
		exchanges[name+", subscribed to"] = says(subscribe(target), "error 1 bad_message")
	}
	for name, body := range map[string]string{
		"no topic": `{"data":"` + canary + `"}`, "no topics": `{"topic":[]}`, "17 topics": `{"topic":["news"` + strings.Repeat(`,"`+canary+`"`, 16) + `]}`,
		"a number": `{"topic":7}`, "a list in a list": `{"topic":[["` + canary + `"]]}`, "no object": `"` + canary + `"`, "a text as echo": `{"topic":"news","echo":"` + canary + `"}`,
		"data beside an event": `{"topic":"news","data":1,"event":{` + plainEvent + `}}`, "twice": `{"topic":"news","topic":"` + canary + `"}`,
	} {
		exchanges[name+", published to"] = says(publish(body), "error 1 bad_message")
	}
	exchanges["a star, published to"] = says(publish(`{"topic":"*"}`), "error 1 bad_topic")
	exchanges["a topic twice"] = says(publish(`{"topic":["news","news"]}`), "error 1 bad_topic")
	exchanges["a topic of no channel"] = says(subscribe(`{"topic":"unregistered"}`), "error 1 unknown_topic", "ack 1")
	exchanges["an event of no channel"] = says(publish(`{"topic":"unregistered"}`), "error 1 unknown_topic")
	exchanges["a closed channel"] = says(subscribe(`{"topic":"closed.x"}`), "error 1 forbidden", "ack 1")
	exchanges["an event of a closed channel"] = says(publish(`{"topic":["news","closed"]}`), "error 1 forbidden")
	exchanges["everything"] = says(subscribe(`{"topic":"*"}`), "error 1 forbidden", "ack 1")
	n := startNode(t, nodeConfig{})
	n.check(t, exchanges)
	n.check(t, once)
	n.check(t, map[string]exchange{
		"255 bytes":   says(subscribe(`{"topic":"news.`+strings.Repeat("x", 250)+`"}`), "ack 1"),
		"16 segments": says(subscribe(`{"topic":"news`+strings.Repeat(".x", 15)+`"}`), "ack 1"),
		"a publication to 255 bytes and to 16 segments": says(publish(`{"topic":["news.`+strings.Repeat("x", 250)+`","news`+strings.Repeat(".x", 15)+`"]}`), "ack 1"),
	})
	m := n.endure(t, abuse{row: "B30", one: n.repeat(exchanges, 1)})
	m.untouched(t)
}

// plainEvent is the attributes that each event has.
const plainEvent = `"specversion":"1.0","id":"1","source":"/s","type":"t"`

func TestB31BrokenEvents(t *testing.T) {
	publish := func(event string) string {
		return `{"action":"publish","ref":1,"body":{"topic":"news","event":` + event + `}}`
	}
	with := func(more string) string { return `{` + plainEvent + `,` + more + `}` }
	exchanges := map[string]exchange{}
	for name, event := range map[string]string{
		"an empty object": `{}`, "a text": `"` + canary + `"`, "a list": `["` + canary + `"]`, "a number": `7`,
		"no id": strings.Replace(`{`+plainEvent+`}`, `"id"`, `"`+canary+`"`, 1), "an empty id": strings.Replace(`{`+plainEvent+`}`, `"id":"1"`, `"id":""`, 1),
		"a number as id": strings.Replace(`{`+plainEvent+`}`, `"id":"1"`, `"id":1`, 1), "another version": strings.Replace(`{`+plainEvent+`}`, `1.0`, canary, 1),
		"an id twice": with(`"id":"` + canary + `"`), "an id in another case": with(`"ID":"` + canary + `"`), "another member twice": with(`"x":1,"\u0078":"` + canary + `"`),
		"no time": with(`"time":"` + canary + `"`), "a time with a fraction": with(`"time":1.5`), "a time before 1970": with(`"time":-1`), "a huge time": with(`"time":1e400`),
		"no base64": with(`"data_base64":"` + canary + `!"`), "data twice": with(`"data":1,"data_base64":"aGk="`), "a number as subject": with(`"subject":7`),
		"half a surrogate pair as id": strings.Replace(`{`+plainEvent+`}`, `"id":"1"`, `"id":"\ud800"`, 1), "an empty content type": with(`"datacontenttype":""`),
	} {
		exchanges[name] = says(publish(event), "error 1 bad_event")
	}
	data := func(n int) string {
		return `{"action":"publish","ref":1,"body":{"topic":"news","data":"` + strings.Repeat("x", n) + `"}}`
	}
	exchanges["data whose event is too large"] = says(data(limit-len(data(0))), "error 1 too_large")
	n := startNode(t, nodeConfig{})
	n.check(t, exchanges)
	n.check(t, map[string]exchange{
		"an event over 32 KiB": ends(1009, text(publish(with(`"data":"`+strings.Repeat("x", limit)+`"`)))),
		"deep data":            says(publish(with(`"data":`+strings.Repeat("[", 5000)+strings.Repeat("]", 5000))), "ack 1"),
		"NUL in data":          says(publish(with(`"data":"\u0000","more":{"a":[null]}`)), "ack 1"),
		"white space":          says(publish(" {\t"+plainEvent+"\n, \"time\" : 5 } "), "ack 1"),
		"base64":               says(publish(with(`"data":null,"data_base64":"aGk="`)), "ack 1"),
	})
	m := n.endure(t, abuse{row: "B31", one: n.repeat(exchanges, 1)})
	m.untouched(t)
}
