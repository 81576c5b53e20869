package exactjson_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/entity-sync/entity-sync/internal/exactjson"
)

func TestMembersGoByTheirExactNames(t *testing.T) {
	for object, want := range map[string]string{
		`{}`:                                  ` |`,
		`{"id":"1","entity":7}`:               `7 |"1"`,
		` { "id" : [ {} , 2 ] , "x" : "}" } `: ` |[ {} , 2 ]`,
		`{"i\u0064":"\"}\\"}`:                 ` |"\"}\\"`,
		`{"id":{"id":"2"},"entity":null}`:     `null |{"id":"2"}`,
		`{"id":"1","id":"2"}`:                 ` |"1"!`,
		`{"id":"1","\u0069d":"1"}`:            ` |"1"!`,
		`{"ID":"1"}`:                          ` |!`,
		`{"Id":"1","id":"2"}`:                 ` |"2"!`,
		"{\"\u0130d\":1,\"id\":2}":            ` |2`, // no case of i
		`{"x":1,"x":2,"X":3,"id":-1.5e3}`:     ` |-1.5e3`,
	} {
		var m [2]exactjson.Member
		exactjson.Read([]byte(object), []string{"entity", "id"}, m[:])
		got := ""
		for i := range m {
			got += string(m[i].Value)
			if m[i].Ambiguous {
				got += "!"
			}
			if i == 0 {
				got += " |"
			}
		}
		if got != want {
			t.Errorf("%s reads as %s, want %s", object, got, want)
		}
	}
}

// A Kelvin sign is a k to who ignores case.
func TestAnotherCaseIsWhateverEncodingJSONTakesForOne(t *testing.T) {
	for _, name := range []string{"KEYS", "keyſ", "\u212aeys", `\u212aey\u017F`} {
		object := `{"` + name + `":1}`
		var lax struct {
			Keys int `json:"keys"`
		}
		if err := json.Unmarshal([]byte(object), &lax); err != nil || lax.Keys != 1 {
			t.Fatalf("encoding/json reads %s as %+v, %v", object, lax, err)
		}
		var m [1]exactjson.Member
		exactjson.Read([]byte(object), []string{"keys"}, m[:])
		if m[0].Value != nil || !m[0].Ambiguous {
			t.Errorf("%s reads as %+v", object, m)
		}
	}
}

func TestAStringIsMadeOfCharacters(t *testing.T) {
	for value, want := range map[string]string{
		`"a"`: "a", `""`: "", `null`: "", `"\n\\u\"\u0041"`: "\n\\u\"A", `"\ud83d\ude00"`: "😀", `"\uFFFD"`: "\ufffd", `"\\ud800"`: `\ud800`, `"é"`: "é",
	} {
		if got, err := exactjson.String([]byte(value)); err != nil || got != want {
			t.Errorf("%s reads as %q, %v", value, got, err)
		}
	}
	for _, value := range []string{
		`"\ud800"`, `"\udfff"`, `"\ud800\ud800"`, `"\ude00\ud83d"`, `"\ud83dx\ude00"`, `"\ud83d\n"`, `"\ud83d\u0041"`, `"\uD83D\uDE00\uDE00"`, "\"\xff\"", "\"\xed\xa0\x80\"", "\"\\n\xff\"",
	} {
		if got, err := exactjson.String([]byte(value)); !errors.Is(err, exactjson.ErrNoCharacter) {
			t.Errorf("%s reads as %q, %v", value, got, err)
		}
	}
	for _, value := range []string{`7`, `{}`, `[]`, `true`, `false`} {
		if got, err := exactjson.String([]byte(value)); !errors.Is(err, exactjson.ErrNoString) {
			t.Errorf("%s reads as %q, %v", value, got, err)
		}
	}
}

// FuzzRead: of any object what is read is what encoding/json reads, or it is said to be
// ambiguous; of any list all elements are.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		`{"a":1}`, `{"A":1,"a":"\ud800"}`, ` [1, "]" ,{"a":[]} , null]`, `{"a":1,"a":2}`, `{"\u0061":{"b":"}"}}`, `{"":"\\"}`, "[\"\xff\"]", `[]`, `{}`, `7`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		if !json.Valid(message) {
			return
		}
		if exactjson.IsObject(message) {
			readsAsJSON(t, message)
		}
		if exactjson.IsList(message) {
			var want []json.RawMessage
			if err := json.Unmarshal(message, &want); err != nil {
				t.Fatal(err)
			}
			n := 0
			for got := range exactjson.Elements(message) {
				if n >= len(want) || !bytes.Equal(got, want[n]) {
					t.Fatalf("element %d of %q reads as %q", n, message, got)
				}
				readsAsText(t, got)
				n++
			}
			if n != len(want) {
				t.Fatalf("%q has %d elements, want %d", message, n, len(want))
			}
		}
	})
}

func readsAsJSON(t *testing.T, message []byte) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(message, &all); err != nil {
		t.Fatal(err)
	}
	var lax struct {
		A json.RawMessage `json:"a"`
	}
	_ = json.Unmarshal(message, &lax)
	var m [1]exactjson.Member
	exactjson.Read(message, []string{"a"}, m[:])
	if _, has := all["a"]; has != (m[0].Value != nil) {
		t.Fatalf("%q reads as %+v", message, m)
	}
	if !m[0].Ambiguous && !bytes.Equal(m[0].Value, lax.A) {
		t.Fatalf("%q reads as %q, and by others as %q", message, m[0].Value, lax.A)
	}
}

func readsAsText(t *testing.T, value []byte) {
	got, err := exactjson.String(value)
	if err == nil {
		var want string
		if err := json.Unmarshal(value, &want); err != nil || got != want {
			t.Fatalf("%q reads as %q, want %q, %v", value, got, want, err)
		}
		// What is written anew and read again is the same: nothing was made up.
		again, err := json.Marshal(got)
		if text, err2 := exactjson.String(again); err != nil || err2 != nil || text != got {
			t.Fatalf("%q comes back as %q, %v, %v", got, text, err, err2)
		}
		return
	}
	if errors.Is(err, exactjson.ErrNoCharacter) && utf8.Valid(value) && !strings.Contains(string(value), `\u`) {
		t.Fatalf("%q is no text: %v", value, err)
	}
}
