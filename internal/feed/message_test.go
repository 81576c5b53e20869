package feed

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/entity-sync/entity-sync/shared"
)

// What another program may read in another way, or what cannot be told from another
// id, is no message.
func TestAMessageIsReadByTheLetter(t *testing.T) {
	for _, body := range []string{
		`{"entity":"items","id":"1","id":"2"}`, `{"entity":"items","id":"1","ID":"2"}`, `{"entity":"items","Ids":["1"]}`, `{"Entity":"items","id":"1"}`,
		`{"entity":"users","entity":"items","id":"1"}`, `{"entity":"items","ids":["1"],"ids":["2"]}`, `{"entity":"items","from":"a","seq":1,"Seq":2}`,
		`{"entity":"items","id":"\ud800"}`, `{"entity":"items","ids":["1","\udfff"]}`, "{\"entity\":\"items\",\"id\":\"\xff\"}", "{\"entity\":\"items\",\"ids\":[\"1\",\"\xed\xa0\x80\"]}",
	} {
		if note, err := decodeMessage("items", []byte(body)); err == nil {
			t.Errorf("%q is read as %+v", body, note)
		}
	}
	for _, body := range []string{`"at":"yesterday","trace":7`, `"at":1,"At":2`, `"at":1e3,"trace":null`, `"trace":"` + strings.Repeat("x", 1000) + `"`} {
		if note, err := decodeMessage("items", []byte(`{"entity":"items","id":"1",`+body+`}`)); err != nil || note.ID != "1" || len(note.Trace) > 64 {
			t.Errorf("with %s it is read as %+v, %v", body, note, err)
		}
	}
	const good = `{"more":1, "ids" : [ "\ud83d\ude00", "\ufffd" ] , "more":2, "entity":"items", "id":null}`
	note, err := decodeMessage("items", []byte(good))
	if err != nil || !slices.Equal(note.IDs, []string{"😀", "�"}) {
		t.Errorf("%s is read as %+v, %v", good, note, err)
	}
}

// FuzzDecodeMessage: no body breaks the decoder, and what it accepts names
// keys of the topic's own entity type alone.
func FuzzDecodeMessage(f *testing.F) {
	for _, body := range []string{`{"entity":"items","id":"100"}`, `{"entity":"items","ids":["1","2"]}`, `{"entity":"users","id":"1"}`,
		`{"entity":"items","id":1}`, "", "{", "null", "[]", `{"entity":"items"}`, strings.Repeat("[", 1000)} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		note, err := decodeMessage("items", body)
		if err != nil {
			return
		}
		var lax struct {
			Entity    shared.EntityType
			ID        string
			IDs       []string
			From      string
			Seq       uint64
			At, Trace any // may be anything
		}
		if err := json.Unmarshal(body, &lax); err != nil || !slices.Equal(lax.IDs, note.IDs) || lax.Entity != note.Entity || lax.ID != note.ID || lax.From != note.From || lax.Seq != note.Seq {
			t.Errorf("%q is read as %+v, and by others as %+v, %v", body, note, lax, err)
		}
		n := 0
		if note.isBeat() {
			return
		}
		for range note.each {
			n++
		}
		if note.Entity != "items" {
			t.Errorf("%q is of %q", body, note.Entity)
		}
		if n == 0 {
			t.Errorf("%q was accepted and names nothing", body)
		}
	})
}

// FuzzMessageRoundTrip: every id comes back, in order, in bodies of bounded size.
func FuzzMessageRoundTrip(f *testing.F) {
	f.Add("100", 3)
	f.Add(strings.Repeat(`"`, 255), 200)
	f.Add("\u2028<>&", 500)
	f.Fuzz(func(t *testing.T, id string, n int) {
		key := shared.EntityKey{Entity: "items", ID: id}
		if key.Validate() != nil || n < 1 || n > 1000 {
			return
		}
		ids := slices.Repeat([]string{id}, n)
		var got []string
		for rest := ids; len(rest) > 0; {
			n := new(room).fit(rest)
			body, err := messageOf("items", rest[:n]).encode()
			rest = rest[n:]
			if err != nil {
				t.Fatal(err)
			}
			if len(body) > 16<<10 {
				t.Errorf("a body of %d bytes", len(body))
			}
			note, err := decodeMessage("items", body)
			if err != nil {
				t.Fatalf("%q: %v", body, err)
			}
			got = slices.AppendSeq(got, note.each)
		}
		if !slices.Equal(got, ids) {
			t.Errorf("%d ids came back as %d", len(ids), len(got))
		}
	})
}
