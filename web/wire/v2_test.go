package wire

import (
	"encoding/json"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/entity-sync/entity-sync/shared"
)

// What is written by hand says what an encoder would.
func TestRowsAreEncodedAsByAnEncoder(t *testing.T) {
	text := rapid.OneOf(rapid.StringN(0, 20, -1), rapid.StringOf(rapid.SampledFrom([]rune("\"\\/<>&\u2028\x00\n é😀"))))
	row := rapid.Custom(func(t *rapid.T) []byte {
		s := text.Draw(t, "text")
		if rapid.Bool().Draw(t, "JSON") {
			quoted, _ := json.Marshal(map[string]any{s: []any{s, 1.5, nil}})
			return quoted
		}
		return []byte(s)
	})
	rapid.Check(t, func(t *rapid.T) {
		r := Reply{
			Action:  ActionUpdate,
			Key:     shared.EntityKey{Entity: shared.EntityType(text.Draw(t, "entity")), ID: text.Draw(t, "id")},
			Version: rapid.StringMatching(`[A-Za-z0-9_-]{22}`).Draw(t, "version"),
			Rows:    rapid.SliceOfN(row, 0, 4).Draw(t, "rows"),
		}
		body := map[string]any{"entity": r.Key.Entity, "id": r.Key.ID, "version": r.Version}
		if len(r.Rows) > 0 {
			var rows []json.RawMessage
			for _, row := range r.Rows {
				rows = append(rows, asJSON(row))
			}
			body["rows"] = rows
		}
		decode := func(message []byte) (v any) {
			if err := json.Unmarshal(message, &v); err != nil {
				t.Fatalf("%q is not JSON: %v", message, err)
			}
			return v
		}
		messages := V2{}.Reply(r)
		if len(messages) != 1 {
			t.Fatalf("%d messages, want 1", len(messages))
		}
		got, want := decode(messages[0]), decode(encode(map[string]any{"action": "update", "body": body}))
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("it says %v, want %v", got, want)
		}
	})
}
