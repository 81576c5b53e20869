package bridge

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// FuzzDecodePlain: what is read as plain reads the same with encoding/json.
func FuzzDecodePlain(f *testing.F) {
	for _, body := range []string{
		`{"entity":"items","id":"100"}`,
		`{"entity":"items","id":"100","from":"7QWXW5XGBQYOYC7RKN7SRIYJNA","seq":18446744073709551615}`,
		`{"entity":"items","ids":["1","2,3",""],"from":"a","seq":10}`,
		`{"entity":"items","from":"a","seq":1}`,
		`{"entity":"items","id":"1","seq":01}`, `{"entity":"items","id":"1","seq":}`, `{"entity":"items","id":"1","seq":18446744073709551616}`,
		`{"entity":"items","id":"1","id":"2"}`, `{"entity":"items","ids":[]}`, `{"entity":"items","ids":["1",]}`, `{"entity":"items","ids":["1"}`,
		`{"entity":"items","id":"\u0031"}`, `{"entity":"items","id":"é"}`, `{"entity":"items","id":"1"} `, `{"entity":"items","id":"1"}}`,
		`{"entity":"items","id":"1`, `{"entity":`, "{", "",
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, plain := decodePlain(string(body))
		if !plain {
			return
		}
		var want notification
		if err := json.Unmarshal(body, &want); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q reads as %+v, and with encoding/json as %+v, %v", body, got, want, err)
		}
	})
}

// What nodes say is plain, or else reading it plainly would be for nothing.
func TestWhatNodesSayIsPlain(t *testing.T) {
	for what, note := range map[string]notification{
		"a key":        {Entity: "items", ID: "100", From: strings.Repeat("A", 26), Seq: 7},
		"several keys": {Entity: "items", IDs: []string{"100", "a <b> & c", "~!"}, From: "A", Seq: 1 << 63},
		"a beat":       {Entity: "items", From: "A", Seq: 20},
		"another's":    {Entity: "items", ID: "100"},
	} {
		body, err := note.encode()
		if err != nil {
			t.Fatal(err)
		}
		if got, plain := decodePlain(string(body)); !plain || !reflect.DeepEqual(got, note) {
			t.Errorf("%s: %s reads as %+v, %v", what, body, got, plain)
		}
	}
	for _, text := range []string{"é", `"`, `\`, "\n", "\x7f"} {
		body, err := notification{Entity: "items", ID: text}.encode()
		if err != nil {
			t.Fatal(err)
		}
		if got, plain := decodePlain(string(body)); plain {
			t.Errorf("%q is plain, and reads as %+v", body, got)
		}
	}
}
