package shared_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/entity-sync/entity-sync/shared"
)

func TestKeyOnTheWire(t *testing.T) {
	key := shared.EntityKey{Entity: "items", ID: "100"}
	b, err := json.Marshal(key)
	if want := `{"entity":"items","id":"100"}`; err != nil || string(b) != want {
		t.Errorf("a key is %s, %v, want %s", b, err, want)
	}
	var m shared.Message
	if err := json.Unmarshal([]byte(`{"action":"subscribe","body":{"id":"100","entity":"items"}}`), &m); err != nil {
		t.Fatal(err)
	}
	var got shared.EntityKey
	if err := json.Unmarshal(m.Body, &got); err != nil || m.Action != shared.ActionSubscribe || got != key {
		t.Errorf("the message reads as %v %v, %v", m.Action, got, err)
	}
}

func TestNamesOfAKey(t *testing.T) {
	key := &shared.EntityKey{Entity: "items", ID: "100"}
	if got := key.Hash(); got != "items.100" {
		t.Errorf("Hash() = %q", got)
	}
	if got := key.Entity.GetQueueName(); got != "items" {
		t.Errorf("GetQueueName() = %q", got)
	}
}

// FuzzValidate: whatever is accepted is safe to write into an NSQ command.
func FuzzValidate(f *testing.F) {
	for _, name := range []string{"items", "", "a b", "x\n", "x#ephemeral", strings.Repeat("x", 64), strings.Repeat("x", 65), "é"} {
		f.Add(name, "100")
	}
	f.Add("items", "a\x00b")
	f.Fuzz(func(t *testing.T, name, id string) {
		err := shared.EntityKey{Entity: shared.EntityType(name), ID: id}.Validate()
		if err != nil {
			if !errors.Is(err, shared.ErrBadKey) {
				t.Errorf("Validate(%q, %q) = %v, which is not ErrBadKey", name, id, err)
			}
			return
		}
		if len(name) == 0 || len(name) > 64 || strings.ContainsFunc(name, func(r rune) bool {
			return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", r)
		}) {
			t.Errorf("entity type %q was accepted", name)
		}
		if len(id) == 0 || len(id) > 255 || strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("id %q was accepted", id)
		}
	})
}
