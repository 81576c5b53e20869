package nsqbus

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/entity-sync/entity-sync/shared"
)

// What a publisher may publish for an entity type is what its listeners get, and
// nothing else.
func FuzzEntityOf(f *testing.F) {
	f.Add([]byte(`{"entity":"items","id":"1"}`), "items")
	f.Add([]byte(`{"entity":"items","entity":"users"}`), "users")
	f.Add([]byte(`{"Entity":"items"}`), "items")
	f.Add([]byte(`{"entity":null}`), "")
	f.Add([]byte(`[]`), "x")
	f.Fuzz(func(t *testing.T, body []byte, name string) {
		entity, err := entityOf(body)
		if (err == nil) != (entity != "") {
			t.Errorf("%q is for %q, %v", body, entity, err)
		}
		if err == nil && !json.Valid(body) {
			t.Errorf("%q is no JSON, and for %q", body, entity)
		}
		if accepted := names(body, shared.EntityType(name)) == nil; accepted != (err == nil && string(entity) == name) {
			t.Errorf("%q is for %q; accepted for %q: %v", body, entity, name, accepted)
		}
		if name == "" || !utf8.ValidString(name) {
			return
		}
		made, err := json.Marshal(map[string]any{"entity": name, "id": body})
		if err != nil {
			t.Fatal(err)
		}
		if err := names(made, shared.EntityType(name)); err != nil {
			t.Errorf("%s: %v", made, err)
		}
	})
}
