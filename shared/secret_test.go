package shared_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/shared"
)

func TestASecretIsShownNowhere(t *testing.T) {
	const text = canary.Mark
	s := shared.NewSecret(text)
	if s.Reveal() != text || s != shared.NewSecret(text) || s == shared.NewSecret("another") {
		t.Fatal("it is not the secret it was made of")
	}
	type holder struct {
		Secret  shared.Secret
		Pointer *shared.Secret
		Map     map[shared.Secret]shared.Secret
		List    []shared.FetchRequest
		Attempt shared.AccessRequest
		hidden  shared.Secret
		deeper  struct{ hidden []shared.Secret }
	}
	h := holder{
		s, &s, map[shared.Secret]shared.Secret{s: s}, []shared.FetchRequest{{Secret: s}}, shared.AccessRequest{Secret: s}, s, struct{ hidden []shared.Secret }{[]shared.Secret{s}},
	}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%T", "%p"} {
		fmt.Fprintf(&out, verb+verb+verb+"\n", s, &s, h)
	}
	fmt.Fprintln(&out, s, &s, h, []any{s}, fmt.Errorf("failed for %v", s))
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).Info("message", "secret", s, "pointer", &s, "holder", h, "requests", h.List)
	}
	for _, v := range []any{s, &s, h} {
		b, err := json.Marshal(v)
		out.Write(b)
		fmt.Fprintln(&out, err)
		b, err = xml.Marshal(v)
		out.Write(b)
		fmt.Fprintln(&out, err)
		fmt.Fprintln(&out, gob.NewEncoder(&out).Encode(v))
	}
	got := out.String()
	t.Log(got) // is searched with all other output
	t.Log(canary.Decoy(canary.TestLog))
	for _, hidden := range []string{text, fmt.Sprintf("%x", text), fmt.Sprintf("%X", text)} {
		if strings.Contains(got, hidden) {
			t.Errorf("it is shown as %q:\n%s", hidden, got)
		}
	}
	if !strings.Contains(got, "[redacted]") {
		t.Errorf("nothing says that something was left out:\n%s", got)
	}
}
