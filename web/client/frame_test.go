package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web"
)

// section returns the part of docs/protocol.md between two texts.
func section(t testing.TB, begin, end string) string {
	t.Helper()
	b, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(b), begin)
	part, _, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("docs/protocol.md has nothing between %q and %q", begin, end)
	}
	return part
}

func serverFrames(t testing.TB) []string {
	return strings.Split(strings.TrimSpace(section(t, "```json server\n", "\n```")), "\n")
}

// What the document shows is understood, down to the last field, and everything
// else is the application's own.
func TestTheFramesOfTheDocumentAreUnderstood(t *testing.T) {
	var read []string
	for _, line := range serverFrames(t) {
		f, ok := decode([]byte(line))
		if !ok {
			t.Errorf("%s is not understood", line)
		}
		text := fmt.Sprintf("%s ref=%d %s %s %s", f.action, f.ref, f.key.Hash(), f.version, f.rows)
		if f.err != nil {
			text += " " + f.err.Error()
		}
		read = append(read, text)
	}
	const version = "tp0ICeR8Qa1mYIZhG2hZnw"
	want := []string{
		`ack ref=2 .  []`,
		`update ref=0 items.100 ` + version + ` [{"id":"100","name":"hammer"}]`,
		`current ref=0 items.101 ` + version + ` []`,
		`delete ref=0 items.100  []`,
		`unsubscribed ref=0 items.100  [] forbidden: this secret may not see it`,
		`stale ref=0 .  []`,
		`fresh ref=0 .  []`,
		`expiring ref=0 .  []`,
		`error ref=3 nothing.1  [] unknown_entity: no such entity type`,
		`error ref=4 .  [] bad_key: a key is an entity type and an id of 1 to 255 bytes without control characters`,
	}
	if got := strings.Join(read, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("read\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	for _, own := range []string{
		``, `rubbish`, `7`, `null`, `[]`, `{}`, `{"hello":1}`, `{"action":"dance"}`, `{"action":7}`, `{"action":"update"}`,
		`{"action":"update","body":{"entity":"items","id":"1","rows":[]}}`, `{"action":"update","body":{"entity":"","id":"1","rows":[1]}}`,
		`{"action":"unsubscribed","body":{"entity":"items","id":"1"}}`, `{"action":"error","body":{}}`, `{"action":"delete","body":{"entity":"items","id":""}}`,
		`{"Action":"stale"}`, `{"action":"stale","ACTION":"fresh"}`, `{"action":"stale","action":"fresh"}`, `{"action":"ack","ref":1,"ref":2}`,
		`{"action":"delete","Body":{"entity":"items","id":"1"}}`, `{"action":"delete","body":{"entity":"items","id":"1","ID":"2"}}`,
		`{"action":"delete","body":{"entity":"items","id":"1"},"body":{"entity":"items","id":"2"}}`, `{"action":"delete","body":{"entity":"items","id":"\ud800"}}`,
		`{"action":"update","body":{"entity":"items","id":"1","rows":[1],"rows":[2]}}`, `{"action":"update","body":{"entity":"items","id":"1","Rows":[1]}}`,
	} {
		if f, ok := decode([]byte(own)); ok {
			t.Errorf("%s is read as %+v", own, f)
		}
	}
}

func TestConstantsAreTheServers(t *testing.T) {
	if subprotocol != web.SubprotocolV2 || closeExpired != web.CloseExpired || closeRevoked != web.CloseRevoked || closeUnauthenticated != web.CloseUnauthenticated {
		t.Error("a constant is not the server's")
	}
}

// Every code of the document has a sentinel error, and the other way round.
func TestEveryCodeHasAMeaning(t *testing.T) {
	documented := 0
	for line := range strings.SplitSeq(section(t, "| code | meaning |\n", "\n\n"), "\n") {
		if strings.Contains(line, "---") {
			continue
		}
		documented++
		code := strings.Trim(strings.Split(line, "|")[1], " `")
		if err := (&Error{Code: code}); errors.Unwrap(err) == nil {
			t.Errorf("nothing stands for %s", code)
		}
	}
	if documented != len(meanings) {
		t.Errorf("the document has %d codes, the client %d", documented, len(meanings))
	}
	if err := (&Error{Code: "new"}); errors.Unwrap(err) != nil {
		t.Error("a code that is not known has a meaning")
	}
}

// The document's word on each close code and upgrade status is kept.
func TestEveryCloseCodeIsObeyed(t *testing.T) {
	for line := range strings.SplitSeq(section(t, "| code | when | reconnect? |\n", "\n\n"), "\n") {
		if strings.Contains(line, "---") {
			continue
		}
		var code int
		cells := strings.Split(line, "|")
		if _, err := fmt.Sscan(strings.Trim(cells[1], " `"), &code); err != nil {
			t.Fatal(err)
		}
		if got, want := isFinalCode(code), strings.HasPrefix(strings.TrimSpace(cells[3]), "no"); got != want {
			t.Errorf("after %d the client gives up: %v, want %v", code, got, want)
		}
	}
	for code := 4400; code < 4600; code++ {
		if got := isFinalCode(code); got != (code >= 4500) {
			t.Errorf("after %d the client gives up: %v", code, got)
		}
	}
}

// FuzzDecode: no message ends the client, and what is taken for a frame makes sense.
func FuzzDecode(f *testing.F) {
	for _, line := range serverFrames(f) {
		f.Add([]byte(line))
	}
	f.Add([]byte(`{"action":"update","body":{"entity":"items","id":"1","rows":[null,"\u0000",{}]}}`))
	f.Add([]byte(`{"action":"delete","Action":"stale","body":{"entity":"items","id":"1","id":"\ud800"}}`))
	f.Fuzz(func(t *testing.T, message []byte) {
		frame, ok := decode(message)
		if !ok {
			return
		}
		var lax struct {
			Action string
			Body   shared.EntityKey
		}
		if err := json.Unmarshal(message, &lax); err != nil || lax.Action != frame.action || lax.Body != frame.key {
			t.Fatalf("%q is read as %+v, and by others as %+v, %v", message, frame, lax, err)
		}
		switch frame.action {
		case actionUpdate, actionCurrent, actionDelete, actionUnsubscribed:
			if err := frame.key.Validate(); err != nil {
				t.Errorf("a frame is about %+v: %v", frame.key, err)
			}
		}
		if (frame.action == actionUpdate) != (len(frame.rows) > 0) {
			t.Errorf("%s with %d rows", frame.action, len(frame.rows))
		}
		for _, row := range frame.rows {
			if !json.Valid(row) {
				t.Errorf("a row is %q", row)
			}
		}
		if wants := frame.action == actionUnsubscribed || frame.action == actionError; wants != (frame.err != nil) || wants && frame.err.Code == "" {
			t.Errorf("%s with the error %v", frame.action, frame.err)
		}
		// An entry takes it, whatever it has been told before.
		e := &entry{key: shared.EntityKey{Entity: "items", ID: "1"}}
		e.about(frame)
		e.about(frame)
	})
}

// What is announced and has not changed is no news; whatever the server cannot tell
// apart is.
func TestWhatIsNews(t *testing.T) {
	e := &entry{key: shared.EntityKey{Entity: "items", ID: "1"}}
	update := func(version string) frame {
		return frame{action: actionUpdate, version: version, rows: []json.RawMessage{[]byte(version)}}
	}
	for i, step := range []struct {
		frame frame
		news  bool
	}{
		{update("1"), true}, {update("1"), false}, {update("2"), true}, {frame{action: actionCurrent, version: "2"}, false},
		{frame{action: actionDelete}, true}, {frame{action: actionDelete}, false}, {update("2"), true}, {update(""), true}, {update(""), true},
	} {
		before := e.known.change
		e.about(step.frame)
		if news := e.known.change != before; news != step.news || !e.answered {
			t.Errorf("step %d, %s %s: news %v, want %v", i+1, step.frame.action, step.frame.version, news, step.news)
		}
	}
}

func TestOnlyTheVersionThereIsIsCurrent(t *testing.T) {
	e := &entry{key: shared.EntityKey{Entity: "items", ID: "1"}}
	e.about(frame{action: actionUpdate, version: "one", rows: []json.RawMessage{[]byte("1")}})
	for version, want := range map[string]bool{"one": true, "two": false, "": false} {
		e.disconnect()
		e.about(frame{action: actionCurrent, version: version})
		if e.answered != want {
			t.Errorf("the version %q confirms what is known: %v", version, e.answered)
		}
	}
}
