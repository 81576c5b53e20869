package bridge

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/entity-sync/entity-sync/shared"
)

// What another program may read in another way, or what cannot be told from another
// id, is no notification.
func TestANotificationIsReadByTheLetter(t *testing.T) {
	for _, body := range []string{
		`{"entity":"items","id":"1","id":"2"}`, `{"entity":"items","id":"1","ID":"2"}`, `{"entity":"items","Ids":["1"]}`, `{"Entity":"items","id":"1"}`,
		`{"entity":"users","entity":"items","id":"1"}`, `{"entity":"items","ids":["1"],"ids":["2"]}`, `{"entity":"items","from":"a","seq":1,"Seq":2}`,
		`{"entity":"items","id":"\ud800"}`, `{"entity":"items","ids":["1","\udfff"]}`, "{\"entity\":\"items\",\"id\":\"\xff\"}", "{\"entity\":\"items\",\"ids\":[\"1\",\"\xed\xa0\x80\"]}",
	} {
		if note, err := decodeNotification("items", []byte(body)); err == nil {
			t.Errorf("%q is read as %+v", body, note)
		}
	}
	const good = `{"more":1, "ids" : [ "\ud83d\ude00", "\ufffd" ] , "more":2, "entity":"items", "id":null}`
	note, err := decodeNotification("items", []byte(good))
	if err != nil || !slices.Equal(note.IDs, []string{"😀", "�"}) {
		t.Errorf("%s is read as %+v, %v", good, note, err)
	}
}

// FuzzDecodeNotification: no body breaks the decoder, and what it accepts names
// keys of the topic's own entity type alone.
func FuzzDecodeNotification(f *testing.F) {
	for _, body := range []string{`{"entity":"items","id":"100"}`, `{"entity":"items","ids":["1","2"]}`, `{"entity":"users","id":"1"}`,
		`{"entity":"items","id":1}`, "", "{", "null", "[]", `{"entity":"items"}`, strings.Repeat("[", 1000)} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		note, err := decodeNotification("items", body)
		if err != nil {
			return
		}
		var lax notification
		if err := json.Unmarshal(body, &lax); err != nil || !slices.Equal(lax.IDs, note.IDs) || lax.Entity != note.Entity || lax.ID != note.ID || lax.From != note.From || lax.Seq != note.Seq {
			t.Errorf("%q is read as %+v, and by others as %+v, %v", body, note, lax, err)
		}
		n := 0
		if note.isBeat() {
			return
		}
		note.each(func(k shared.EntityKey) {
			n++
			if k.Entity != "items" {
				t.Errorf("%q names %v", body, k)
			}
		})
		if n == 0 {
			t.Errorf("%q was accepted and names nothing", body)
		}
	})
}

// FuzzNotificationRoundTrip: every id comes back, in order, in bodies of bounded size.
func FuzzNotificationRoundTrip(f *testing.F) {
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
			body, err := notificationOf("items", rest[:n]).encode()
			rest = rest[n:]
			if err != nil {
				t.Fatal(err)
			}
			if len(body) > 16<<10 {
				t.Errorf("a body of %d bytes", len(body))
			}
			note, err := decodeNotification("items", body)
			if err != nil {
				t.Fatalf("%q: %v", body, err)
			}
			note.each(func(k shared.EntityKey) { got = append(got, k.ID) })
		}
		if !slices.Equal(got, ids) {
			t.Errorf("%d ids came back as %d", len(ids), len(got))
		}
	})
}
