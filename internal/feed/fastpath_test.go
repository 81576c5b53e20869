package feed

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/entity-sync/entity-sync/shared"
)

// FuzzDecodeFast: what is read as plain reads the same with encoding/json.
func FuzzDecodeFast(f *testing.F) {
	for _, body := range []string{
		`{"entity":"items","id":"100"}`,
		`{"entity":"items","id":"100","from":"7QWXW5XGBQYOYC7RKN7SRIYJNA","seq":18446744073709551615}`,
		`{"entity":"items","ids":["1","2,3",""],"from":"a","seq":10}`,
		`{"entity":"items","from":"a","seq":1}`,
		`{"entity":"items","id":"1","from":"a","seq":1,"at":1764490000000,"trace":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}`,
		`{"entity":"items","id":"1","at":9223372036854775808}`, `{"entity":"items","id":"1","at":-1}`,
		`{"entity":"items","id":"1","seq":01}`, `{"entity":"items","id":"1","seq":}`, `{"entity":"items","id":"1","seq":18446744073709551616}`,
		`{"entity":"items","id":"1","id":"2"}`, `{"entity":"items","ids":[]}`, `{"entity":"items","ids":["1",]}`, `{"entity":"items","ids":["1"}`,
		`{"entity":"items","id":"\u0031"}`, `{"entity":"items","id":"é"}`, `{"entity":"items","id":"1"} `, `{"entity":"items","id":"1"}}`,
		`{"entity":"items","id":"1`, `{"entity":`, "{", "",
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, plain := decodeFast(string(body))
		if !plain {
			return
		}
		var want message
		if err := json.Unmarshal(body, &want); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q reads as %+v, and with encoding/json as %+v, %v", body, got, want, err)
		}
	})
}

// FuzzEncodeFast: what is written as plain is what encoding/json writes.
func FuzzEncodeFast(f *testing.F) {
	f.Add("items", "100", "", "7QWXW5XGBQYOYC7RKN7SRIYJNA", uint64(7))
	f.Add("items", "", "1\n2,3", "A", uint64(1)<<63)
	f.Add("items", "", "1\n\n", "A", uint64(1))
	f.Add("items", "", "", "A", uint64(20))
	for _, text := range []string{"a <b> & c", "~!", "é", `"`, `\`, "\t", "\x7f", "\xff", "\u2028"} {
		f.Add("items", text, "", "", uint64(0))
		f.Add(text, "", text+"\n"+text, text, uint64(0))
	}
	f.Fuzz(func(t *testing.T, entity, id, ids, from string, seq uint64) {
		note := message{Entity: shared.EntityType(entity), ID: id, From: from, Seq: seq}
		if ids != "" {
			note.IDs = strings.Split(ids, "\n")
		}
		got, plain := encodeFast(note)
		if !plain {
			return
		}
		if want, err := note.encodeSlow(); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%+v is written as %s, and with encoding/json as %s, %v", note, got, want, err)
		}
		if len(got) > note.size() {
			t.Errorf("%+v takes %d bytes, and has room for %d", note, len(got), note.size())
		}
	})
}

// What nodes say is plain, or else reading it plainly would be for nothing.
func TestWhatNodesSayIsPlain(t *testing.T) {
	for what, note := range map[string]message{
		"a key":        {Entity: "items", ID: "100", From: strings.Repeat("A", 26), Seq: 7},
		"several keys": {Entity: "items", IDs: []string{"100", "a <b> & c", "~!"}, From: "A", Seq: 1 << 63},
		"a beat":       {Entity: "items", From: "A", Seq: 20},
		"a traced one": {Entity: "items", ID: "100", From: "A", Seq: 7, At: 1764490000000, Trace: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
		"another's":    {Entity: "items", ID: "100"},
	} {
		body, plain := encodeFast(note)
		if !plain {
			t.Errorf("%s is not written plainly", what)
		}
		if got, plain := decodeFast(string(body)); !plain || !reflect.DeepEqual(got, note) {
			t.Errorf("%s: %s reads as %+v, %v", what, body, got, plain)
		}
	}
	for _, text := range []string{"é", `"`, `\`, "\n", "\x7f"} {
		body, err := message{Entity: "items", ID: text}.encode()
		if err != nil {
			t.Fatal(err)
		}
		if got, plain := decodeFast(string(body)); plain {
			t.Errorf("%q is plain, and reads as %+v", body, got)
		}
	}
}
