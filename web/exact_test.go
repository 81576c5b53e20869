package web_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/web"
)

// Each of these another reader may read in another way than the node.
var ambiguous = map[string]string{
	`{"action":"subscribe","action":"unsubscribe","ref":1,"body":{"entity":"items","id":"1"}}`:       "error 1 bad_message",
	`{"action":"subscribe","Action":"unsubscribe","ref":1,"body":{"entity":"items","id":"1"}}`:       "error 1 bad_message",
	`{"ACTION":"secret","action":"subscribe","ref":1,"body":{"entity":"items","id":"1"}}`:            "error 1 bad_message",
	`{"action":"","action":"subscribe","body":{"entity":"items","id":"1"}}`:                          "error bad_message",
	`{"action":"subscribe","ref":1,"ref":2,"body":{"entity":"items","id":"1"}}`:                      "error bad_message",
	`{"action":"subscribe","ref":1,"REF":2,"body":{"entity":"items","id":"1"}}`:                      "error bad_message",
	`{"action":"subscribe","body":{"entity":"items","id":"1"},"body":{"entity":"items","id":"2"}}`:   "error bad_message",
	`{"action":"subscribe","body":{"entity":"items","id":"1"},"Body":{"entity":"items","id":"2"}}`:   "error bad_message",
	`{"action":"subscribe","Body":{"entity":"items","id":"1"}}`:                                      "error bad_message",
	`{"action":"subscribe","body":{"entity":"items","id":"1","id":"2"}}`:                             "error bad_message",
	`{"action":"subscribe","body":{"entity":"items","id":"1","\u0069d":"2"}}`:                        "error bad_message",
	`{"action":"subscribe","body":{"entity":"items","id":"1","ID":"2"}}`:                             "error bad_message",
	`{"action":"subscribe","body":{"Entity":"items","id":"1"}}`:                                      "error bad_message",
	`{"action":"subscribe","body":{"entity":"items","entity":"nothing","id":"1"}}`:                   "error bad_message",
	`{"action":"subscribe","body":{"entity":"items","id":"1","snapshot":false,"snapshot":true}}`:     "error bad_message",
	"{\"action\":\"subscribe\",\"body\":{\"entity\":\"items\",\"id\":\"1\",\"\u017fnapshot\":true}}": "error bad_message",
	`{"action":"unsubscribe","body":{"entity":"items","id":"9","id":"8"}}`:                           "error bad_message",
	`{"action":"secret","body":"` + mark + `a","body":"` + mark + `b"}`:                              "error bad_message",
	`{"action":"secret","BODY":"` + mark + `a"}`:                                                     "error bad_message",
}

// What can be read in two ways is refused, and does nothing.
func TestWhatCanBeReadInTwoWaysIsRefused(t *testing.T) {
	s := start(t, web.Config{OnMessage: func(c web.Session, b []byte) { t.Errorf("%s came to the application", b) }}, echo)
	c, old := s.dialV2(t), s.dial(t)
	for message, want := range ambiguous {
		c.Send("%s", message)
		c.WantReply(want)
		old.Send("%s", message)
	}
	for _, message := range []string{
		`{"action":"subscribe","body":[{"entity":"items","id":"1"},{"entity":"items","id":"2","id":"3"}]}`,
		`{"action":"subscribe","body":{"entity":"items","id":"1","version":"a","version":"b"}}`,
	} {
		c.Send("%s", message)
		c.WantReply("error bad_message")
	}
	// Fields that no message has say nothing, however often.
	c.Send(`{"more":1,"action":"subscribe","more":2,"MORE":3,"body":{"entity":"items","id":"1","more":4,"more":5}}`)
	c.WantReply("ack")
	c.WantReply(`update items 1 {"id":"1","for":""}`)
	old.Send(`{"action":"subscribe","body":{"entity":"items","id":"1","snapshot":true}}`)
	old.Want(`{"id":"1","for":""}`)
	s.untilSubscribed(t, 2)
}

// A message without an action is the application's, whatever else is in it.
func TestAnotherCaseOfActionIsTheApplications(t *testing.T) {
	var mu sync.Mutex
	var got []string
	s := start(t, web.Config{PassThrough: func(_ string, b []byte) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, string(b))
	}}, echo)
	own := []string{
		`{"ACTION":"unsubscribe","body":{"entity":"items","id":"1"}}`, `{"Action":"secret","body":"` + mark + `x"}`,
		"{\"act\u0131on\":\"subscribe\"}", `{"x":1,"x":2}`, `{"Ref":1,"ref":{},"Body":2}`,
	}
	for name, c := range map[string]*conn{"v2": s.dialV2(t), "classic": s.dial(t)} {
		c.Send(`{"action":"subscribe","body":{"entity":"items","id":"1","snapshot":true}}`)
		if name == "v2" {
			c.WantReply("ack")
		}
		c.Read()
		for _, message := range own {
			c.Send("%s", message)
		}
		testkit.Until(t, "the application has got them", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(got) == len(own)
		})
		mu.Lock()
		if strings.Join(got, " ") != strings.Join(own, " ") {
			t.Errorf("%s: the application got %q", name, got)
		}
		got = nil
		mu.Unlock()
		s.notify(t, "1") // and it is still subscribed
		c.Read()
		c.Close()
		s.untilSubscribed(t, 0)
	}
}

// Half a surrogate pair is no character: all of them would be one key, and one secret.
func TestWhatIsNoCharacterIsNoPartOfAKey(t *testing.T) {
	s := start(t, web.Config{}, echo)
	c, old := s.dialV2(t), s.dial(t)
	c.Send(`{"action":"subscribe","body":{"entity":"items","id":"` + "\ufffd" + `"}}`)
	c.WantReply("ack")
	c.WantReply("update items \ufffd {\"id\":\"\ufffd\",\"for\":\"\"}")
	c.Send(`{"action":"subscribe","ref":1,"body":[{"entity":"items","id":"\ud800"},{"entity":"items","id":"\ud83d\ude00"},{"entity":"items\udfff","id":"1"},{"entity":"items","id":"a\udc00b"}]}`)
	for _, want := range []string{"error 1 bad_key #0", "error 1 bad_key #2", "error 1 bad_key #3", "ack 1", `update items 😀 {"id":"😀","for":""}`} {
		c.WantReply(want)
	}
	c.Send(`{"action":"unsubscribe","ref":2,"body":{"entity":"items","id":"\ud800"}}`) // changes nothing
	c.WantReply("ack 2")
	s.untilSubscribed(t, 2)
	c.Send(`{"action":"secret","ref":3,"body":"` + mark + `\udead"}`)
	c.WantReply("error 3 bad_message")

	for _, message := range []string{
		`{"action":"subscribe","body":{"entity":"items","id":"\ud800","snapshot":true}}`, `{"action":"secret","body":"` + mark + `\udead"}`,
		`{"action":"subscribe","body":{"entity":"items","id":"x","snapshot":true}}`,
	} {
		old.Send("%s", message)
	}
	old.Want(`{"id":"x","for":""}`)
	s.untilSubscribed(t, 3)
}
