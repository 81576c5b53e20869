package client

import (
	"errors"
	"testing"

	"github.com/entity-sync/entity-sync/internal/testkit/docs"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/wire"
)

// Every code of the document has a sentinel error, and the other way round.
func TestEveryCodeHasAMeaning(t *testing.T) {
	codes := docs.Table(t, "docs/protocol.md", "| code | meaning |")
	for _, row := range codes {
		if err := (&Error{Code: row[0]}); errors.Unwrap(err) == nil {
			t.Errorf("nothing stands for %s", row[0])
		}
	}
	if len(codes) != len(meanings) {
		t.Errorf("the document has %d codes, the client %d", len(codes), len(meanings))
	}
	if err := (&Error{Code: "new"}); errors.Unwrap(err) != nil {
		t.Error("a code that is not known has a meaning")
	}
}

// FuzzAbout: an entry takes any reply, whatever it has been told before.
func FuzzAbout(f *testing.F) {
	for _, line := range docs.Lines(f, "docs/protocol.md", "json server") {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		r, ok := wire.ReadReply(message)
		if !ok {
			return
		}
		e := &entry{key: shared.EntityKey{Entity: "items", ID: "1"}}
		e.about(r)
		once := e.known.change
		e.about(r)
		if again := e.known.change != once; again && (r.Action != wire.ActionUpdate || r.Version != "") {
			t.Errorf("%q is news twice", message)
		}
	})
}

// What is announced and has not changed is no news; whatever the server cannot tell
// apart is.
func TestWhatIsNews(t *testing.T) {
	e := &entry{key: shared.EntityKey{Entity: "items", ID: "1"}}
	update := func(version string) wire.Reply {
		return wire.Reply{Action: wire.ActionUpdate, Version: version, Rows: [][]byte{[]byte(version)}}
	}
	for i, step := range []struct {
		reply wire.Reply
		news  bool
	}{
		{update("1"), true}, {update("1"), false}, {update("2"), true}, {wire.Reply{Action: wire.ActionCurrent, Version: "2"}, false},
		{wire.Reply{Action: wire.ActionDelete}, true}, {wire.Reply{Action: wire.ActionDelete}, false}, {update("2"), true}, {update(""), true}, {update(""), true},
	} {
		before := e.known.change
		e.about(step.reply)
		if news := e.known.change != before; news != step.news || !e.answered {
			t.Errorf("step %d, %s %s: news %v, want %v", i+1, step.reply.Action, step.reply.Version, news, step.news)
		}
	}
}

func TestOnlyTheVersionThereIsIsCurrent(t *testing.T) {
	e := &entry{key: shared.EntityKey{Entity: "items", ID: "1"}}
	e.about(wire.Reply{Action: wire.ActionUpdate, Version: "one", Rows: [][]byte{[]byte("1")}})
	for version, want := range map[string]bool{"one": true, "two": false, "": false} {
		e.disconnect()
		e.about(wire.Reply{Action: wire.ActionCurrent, Version: version})
		if e.answered != want {
			t.Errorf("the version %q confirms what is known: %v", version, e.answered)
		}
	}
}
